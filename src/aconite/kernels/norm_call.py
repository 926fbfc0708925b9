"""A call of the fused norms, bound to where its tensors lie: checked once, good as long as they stay there."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, SettingsError, ShapeError
from ._generator import Generator
from ._library import load
from ._plan import ARITHMETIC, check
from ._pointers import arithmetic, like, planned
from ._recipe import DX, GRAD, GRADIENTS, SAVED, Recipe, X, Y, address, pieces
from .cpu_meta import meta_call

__all__ = ["ACTIVATIONS", "Norm", "NormCall", "NormMetaCall", "library", "meta_saved_size", "places"]

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


_place = Tensor.data_ptr


def places(tensors: Sequence[Tensor]) -> list[int]:
    """Where in memory the tensors begin."""
    return [*map(_place, tensors)]


# aconite_batch_norm: four pointers, eps, statistics, activation.
_RECORD = struct.Struct("@4Pd2i")


class NormCall:
    """A norm and ACON-C, a ReLU or nothing behind it, on inputs that lie as `x` does.

    Attributes:
        copied: some tensors had to be converted, so that the call is good for their present values only.
    """

    _ways = "forward", "backward"
    _sizes: tuple[int, ...]

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
        self._bind(x, norm, slopes, activation, gate, batch, reads)
        self._slopes = [t.data_ptr() for t in self._converted(slopes, x.dtype)]
        self._sizes = (self.c,) * 5

    def _bind(
        self,
        x: Tensor,
        norm: Norm,
        slopes: Sequence[Tensor],
        activation: str,
        gate: str,
        batch: bool | None,
        reads: Sequence[Tensor | None],
        meta: bool = False,
    ) -> None:
        if activation not in ACTIVATIONS:
            raise SettingsError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if x.ndim < 2 or x.numel() == 0:
            raise KernelUnavailableError(f"a fused BatchNorm takes no input of shape {tuple(x.shape)}")
        dense, self._plan = planned(x, slopes, 1, gate, meta=meta)
        if dense is not x:
            raise KernelUnavailableError("x has gaps or repeats in memory: copy it first")
        self.c, self.dtype = x.shape[1], ARITHMETIC[x.dtype]
        self._strides, self._x, self.copied = x.stride(), (x.shape, x.dtype), False
        # What backward reads beside x, in the operator's order, which is that of the gradients.
        self._places = places([t for t in reads if t is not None])
        self._absent = [i for i, t in enumerate(reads) if t is None]
        self._held: list[Tensor] = []
        pointers = []
        for tensor in norm[:4]:
            if tensor is None:
                pointers.append(0)
                continue
            if tensor.numel() != self.c:
                raise ShapeError(
                    f"a norm of {self.c} channels has a tensor of shape {tuple(tensor.shape)}; expected ({self.c},)"
                )
            if not tensor.is_cpu:
                raise KernelUnavailableError(f"the native kernels run on the CPU, not on {tensor.device}")
            pointers.append(self._converted([tensor], x.dtype)[0].data_ptr())
        batch = norm.mean is None if batch is None else batch
        self._forward, self._backward = (getattr(library(), f"aconite_batch_norm_{way}") for way in self._ways)
        record = _RECORD.pack(*pointers, norm.eps, 1 if batch else 2, ACTIVATIONS[activation])
        self._head: tuple[int | bytes, ...] = self._plan.address, record

    def _converted(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        found = arithmetic(dtype, *tensors)
        self.copied |= any(a is not b for a, b in zip(found, tensors, strict=True))
        self._held += found
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """y, and mean and biased variance (2, C) in float64, of which backward makes use."""
        y = torch.empty_like(x)
        statistics = torch.empty((2, self.c), dtype=torch.float64, device="cpu")
        status = self._forward(*self._head, x.data_ptr(), *self._slopes, y.data_ptr(), statistics.data_ptr())
        if status:
            check(status)
        return y, statistics

    def stays(self, held: Sequence[Tensor]) -> bool:
        """Whether x, and what backward reads behind it, lie as they lay."""
        x, found = held[0], self._places
        lies = x.stride() == self._strides and (x.shape, x.dtype) == self._x
        return lies and [*map(_place, held[1 : len(found) + 1])] == found and self._kept(held[len(found) + 1 :])

    def _kept(self, saved: Sequence[Tensor]) -> bool:
        """Whether what forward returned beside y is as it returned it."""
        kinds = [(tuple(t.shape), t.dtype) for t in saved]
        return kinds == self._beside() and all(t.is_contiguous() for t in saved)

    def backward(self, grad: Tensor, x: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        """Gradients of x, weight, bias, p1, p2, beta, of those that `reads` had: vectors of C numbers but the first.

        The statistics are the last of what is held.
        """
        if grad.dtype is not x.dtype or grad.stride() != self._strides:
            grad = like(grad, x)
        dx, statistics = torch.empty_like(x), held[-1]
        gradients = torch.empty(5 * self.c, dtype=self.dtype, device="cpu")
        status = self._backward(
            *self._head,
            grad.data_ptr(),
            x.data_ptr(),
            *self._slopes,
            statistics.data_ptr(),
            dx.data_ptr(),
            gradients.data_ptr(),
        )
        if status:
            check(status)
        # Nobody else sees the whole vector, so autograd need not know of views.
        return self._present(dx, *torch.unsafe_split_with_sizes(gradients, self._sizes))

    def recipe(self) -> Recipe:
        """The call for one who is not Python."""
        shapes, order = self._gradients()
        gradients, count = pieces(shapes)
        beside = self._beside()
        saved = tuple((SAVED + i, 0) for i in range(len(beside)))
        return Recipe(
            address(self._forward),
            (*self._head, (X, 0), *self._slopes, (Y, 0), *saved),
            address(self._backward),
            (*self._head, (GRAD, 0), (X, 0), *self._slopes, *saved, (DX, 0), (GRADIENTS, 0)),
            tuple((shape, torch.empty(0, dtype=dtype, device="cpu")) for shape, dtype in beside),
            tuple(gradients[k] for i, k in enumerate(order) if i not in self._absent),
            count,
            torch.empty(0, dtype=self.dtype, device="cpu"),
            True,
        )

    def _gradients(self) -> tuple[Sequence[tuple[int, ...]], Sequence[int]]:
        """Shapes of the vector's pieces, and which of them belongs to each of `reads`."""
        return [(self.c,)] * 5, range(5)

    def _beside(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [((2, self.c), torch.float64)]

    def _present(self, dx: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        if self._absent:
            gradients = tuple(g for i, g in enumerate(gradients) if i not in self._absent)
        return (dx, *gradients)


class NormMetaCall(NormCall):
    """A norm and Meta-ACON behind it."""

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
        self._bind(x, norm, slopes, "acon_c", gate, batch, reads, meta=True)
        call, copies = meta_call(self._plan, x.dtype, slopes[0], slopes[1], generator)
        self._held += [*slopes, *(t for t in generator[:12] if t is not None), *copies]
        self.copied |= bool(copies)
        self._head = (*self._head, call.record)
        self._slopes = call.pointers[:2]
        c, h = self.c, call.h
        self._saved = meta_saved_size(x.shape[0], c, h)
        self._sizes = (c, c, c, c, h * c, h, h, h, h * c, c, c, c)
        self._shapes = generator.fc1_weight.shape, generator.fc2_weight.shape

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """y, the statistics, and N·C numbers followed by what `split_saved` names."""
        y = torch.empty_like(x)
        statistics = torch.empty((2, self.c), dtype=torch.float64, device="cpu")
        saved = torch.empty(self._saved, dtype=self.dtype, device="cpu")
        status = self._forward(
            *self._head, x.data_ptr(), *self._slopes, y.data_ptr(), statistics.data_ptr(), saved.data_ptr()
        )
        if status:
            check(status)
        return y, statistics, saved

    def backward(self, grad: Tensor, x: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        """Gradients of x, weight, bias, p1, p2 and the generator's first eight, of those that `reads` had.

        The last of what is held are the statistics and what forward saved.
        """
        statistics, saved = held[-2:]
        if saved.numel() != self._saved or saved.dtype is not self.dtype or not saved.is_contiguous():
            raise ShapeError(
                f"saved is {saved.dtype} of shape {tuple(saved.shape)}; "
                f"forward made {self._saved} numbers of {self.dtype}"
            )
        if grad.dtype is not x.dtype or grad.stride() != self._strides:
            grad = like(grad, x)
        dx = torch.empty_like(x)
        gradients = torch.empty(sum(self._sizes), dtype=self.dtype, device="cpu")
        status = self._backward(
            *self._head,
            grad.data_ptr(),
            x.data_ptr(),
            *self._slopes,
            statistics.data_ptr(),
            saved.data_ptr(),
            dx.data_ptr(),
            gradients.data_ptr(),
        )
        if status:
            check(status)
        dweight, dbias, dp1, dp2, dw1, db1, dg1, do1, dw2, db2, dg2, do2 = torch.unsafe_split_with_sizes(
            gradients, self._sizes
        )
        first, second = self._shapes
        return self._present(
            dx, dweight, dbias, dp1, dp2, dw1.view(first), dw2.view(second), db1, db2, dg1, do1, dg2, do2
        )

    def _gradients(self) -> tuple[Sequence[tuple[int, ...]], Sequence[int]]:
        c, h, (first, second) = (self.c,), self._sizes[5:6], self._shapes
        return [c, c, c, c, first, h, h, h, second, c, c, c], [0, 1, 2, 3, 4, 8, 5, 9, 6, 7, 10, 11]

    def _beside(self) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [*super()._beside(), ((self._saved,), self.dtype)]
