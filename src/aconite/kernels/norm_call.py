"""A call of the fused norms, bound to where its tensors lie: checked once, good as long as they stay there."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, SettingsError, ShapeError
from ._generator import Generator
from ._library import load
from ._plan import ARITHMETIC
from ._pointers import arithmetic, planned
from .bound_call import BoundCall
from .cpu_meta import gradients_of, meta_call

__all__ = ["ACTIVATIONS", "Norm", "NormCall", "NormMetaCall", "library", "meta_saved_size"]

ACTIVATIONS = {"acon_c": 0, "identity": 1, "relu": 2}


class Norm(NamedTuple):
    """A BatchNorm: with `mean` and `var` it normalises by them, without by the batch's own statistics."""

    weight: Tensor | None = None
    bias: Tensor | None = None
    mean: Tensor | None = None
    var: Tensor | None = None
    eps: float = 1e-5


_SIGNATURES = (
    ("aconite_batch_norm_forward", 8),
    ("aconite_batch_norm_backward", 10),
    ("aconite_batch_norm_meta_forward", 9),
    ("aconite_batch_norm_meta_backward", 11),
    ("aconite_batch_norm_update", 1),
)
_declared: set[ctypes.CDLL] = set()


def library() -> ctypes.CDLL:
    """The loaded library with the fused norms' functions declared."""
    functions = load().functions
    assert functions is not None  # a plan exists only where the library does
    if functions not in _declared:
        for name, count in _SIGNATURES:
            function = getattr(functions, name)
            function.argtypes = [ctypes.c_void_p] * count
            function.restype = ctypes.c_int32
        _declared.add(functions)
    return functions


def meta_saved_size(n: int, c: int, h: int) -> int:
    """How many numbers a forward call with Meta-ACON saves."""
    return 4 * n * c + n * h + 2 * h + 2 * c


# aconite_batch_norm: four pointers, eps, statistics, activation.
_RECORD = struct.Struct("@4Pd2i")


class NormCall(BoundCall):
    """A norm and ACON-C, a ReLU or nothing behind it. Forward saves mean and biased variance (2, C) in float64.

    Gradients are those of weight, bias, p1, p2 and beta: of all of them, or of those that ``reads`` has.
    """

    _ways = "forward", "backward"

    def __init__(
        self,
        x: Tensor,
        norm: Norm,
        slopes: Sequence[Tensor],
        *,
        activation: str = "acon_c",
        gate: str = "sigmoid",
        batch: bool | None = None,
        reads: Sequence[Tensor | None] = (),
    ) -> None:
        head = self._bind(x, norm, slopes, activation, gate, batch)
        pointers = [t.data_ptr() for t in self._converted(slopes, x.dtype)]
        c = x.shape[1]
        self._hold(x, self._functions(), head, pointers, reads, [_statistics(c)], [(c,)] * 5)

    def _bind(
        self,
        x: Tensor,
        norm: Norm,
        slopes: Sequence[Tensor],
        activation: str,
        gate: str,
        batch: bool | None,
        meta: bool = False,
    ) -> list[int | bytes]:
        """The first arguments: the view and the norm's record."""
        if activation not in ACTIVATIONS:
            raise SettingsError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if x.ndim < 2 or x.numel() == 0:
            raise KernelUnavailableError(f"a fused BatchNorm takes no input of shape {tuple(x.shape)}")
        dense, self._plan = planned(x, slopes, 1, gate, meta=meta)
        if dense is not x:
            raise KernelUnavailableError("x has gaps or repeats in memory: copy it first")
        c = x.shape[1]
        self.copied = False
        self._held: list[Tensor] = []
        pointers = []
        for tensor in norm[:4]:
            if tensor is None:
                pointers.append(0)
                continue
            if tensor.numel() != c:
                raise ShapeError(f"a norm of {c} channels has a tensor of shape {tuple(tensor.shape)}; expected ({c},)")
            if not tensor.is_cpu:
                raise KernelUnavailableError(f"the native kernels run on the CPU, not on {tensor.device}")
            pointers.append(self._converted([tensor], x.dtype)[0].data_ptr())
        batch = norm.mean is None if batch is None else batch
        record = _RECORD.pack(*pointers, norm.eps, 1 if batch else 2, ACTIVATIONS[activation])
        return [self._plan.address, record]

    def _functions(self) -> tuple[Callable[..., int], Callable[..., int]]:
        forward, backward = (getattr(library(), f"aconite_batch_norm_{way}") for way in self._ways)
        return forward, backward

    def _converted(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        found = arithmetic(dtype, *tensors)
        self.copied |= any(a is not b for a, b in zip(found, tensors, strict=True))
        self._held += found
        return found


class NormMetaCall(NormCall):
    """A norm and Meta-ACON behind it. Forward saves the statistics, and N·C numbers before what `split_saved` names.

    Gradients are those of weight, bias, p1, p2 and the generator's first eight.
    """

    _ways = "meta_forward", "meta_backward"

    def __init__(
        self,
        x: Tensor,
        norm: Norm,
        slopes: tuple[Tensor, Tensor],
        generator: Generator,
        *,
        gate: str = "sigmoid",
        batch: bool | None = None,
        reads: Sequence[Tensor | None] = (),
    ) -> None:
        head = self._bind(x, norm, slopes, "acon_c", gate, batch, meta=True)
        call, copies = meta_call(self._plan, x.dtype, slopes[0], slopes[1], generator)
        self._held += [*slopes, *(t for t in generator[:12] if t is not None), *copies]
        self.copied |= bool(copies)
        n, c = x.shape[:2]
        shapes, order = gradients_of(c, call.h, generator)
        self._hold(
            *(x, self._functions(), [*head, call.record], call.pointers[:2], reads),
            [_statistics(c), ((meta_saved_size(n, c, call.h),), ARITHMETIC[x.dtype])],
            [(c,), (c,), *shapes],
            [0, 1, *(2 + k for k in order)],
        )


def _statistics(c: int) -> tuple[tuple[int, ...], torch.dtype]:
    return (2, c), torch.float64
