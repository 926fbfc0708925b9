"""BatchNorm and the activation behind it, fused, as functions of tensors; the channels are dimension 1."""

from __future__ import annotations

import struct
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, ShapeError
from ._generator import Generator
from ._library import load
from ._memory import in_memory
from ._plan import DTYPES, KEPT, check, refusal
from ._pointers import like, one, planned
from ._recipe import POINTER
from .norm_call import ACTIVATIONS, Norm, NormCall, NormMetaCall, library, meta_saved_size

__all__ = [
    "ACTIVATIONS",
    "Norm",
    "NormCall",
    "NormMetaCall",
    "StatisticsUpdate",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_meta_backward",
    "batch_norm_meta_forward",
    "meta_saved_size",
    "serves_norm",
    "supports_norm",
]


class NormGradients(NamedTuple):
    """Gradients of x and of vectors, one number per channel; the last three are there for ACON-C alone."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    p1: Tensor
    p2: Tensor
    beta: Tensor


_served: set[object] = set()
_PLAIN = {Tensor, torch.nn.Parameter}


def supports_norm(x: Tensor, *parameters: Tensor, meta: bool = False) -> str | None:
    """None if the native kernels serve x with these parameters, scalar or per channel, else the reason why not."""
    if load().reason is None and not hasattr(load().functions, "aconite_batch_norm_update"):
        return "the native library was built without the fused norms: build it anew"
    if x.ndim < 2:
        return f"a BatchNorm's input has two dimensions or more, not the shape {tuple(x.shape)}"
    if x.numel() == 0:
        return "the tensor is empty"
    for parameter in parameters:
        if parameter.numel() not in (1, x.shape[1]):
            return f"a parameter of shape {tuple(parameter.shape)} is neither scalar nor per channel"
    return refusal(x, parameters, 1, meta=meta)


def serves_norm(x: Tensor, *parameters: Tensor, meta: bool = False) -> bool:
    """Whether `supports_norm` is None, and no tensor has to be copied into memory first; a kind of call once found
    served is found again at once.
    """
    tensors = (x, *parameters)
    for tensor in tensors:
        if type(tensor) not in _PLAIN or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_nested:
            return False
        if not in_memory(tensor):
            return False
    key = (x.stride(), x.dtype, meta, *(tensor.shape for tensor in tensors))
    if key in _served:
        return True
    if supports_norm(*tensors, meta=meta) is not None:
        return False
    if len(_served) >= KEPT:
        _served.clear()
    _served.add(key)
    return True


def batch_norm_forward(
    x: Tensor, norm: Norm, p1: Tensor, p2: Tensor, beta: Tensor, *, activation: str = "acon_c", gate: str = "sigmoid"
) -> tuple[Tensor, Tensor]:
    """y = activation(batch_norm(x)), and mean and biased variance (2, C) in float64, of which backward makes use.

    p1, p2 and beta, scalar or per channel, are those of ACON-C; "identity" and "relu" do not read them.
    """
    x = _dense(x, (p1, p2, beta), gate)
    y, statistics = NormCall(x, norm, (p1, p2, beta), activation=activation, gate=gate).forward(x)
    return y, statistics


def batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    norm: Norm,
    p1: Tensor,
    p2: Tensor,
    beta: Tensor,
    statistics: Tensor,
    *,
    batch: bool,
    activation: str = "acon_c",
    gate: str = "sigmoid",
) -> NormGradients:
    """All gradients; `batch` says whether the statistics were the batch's own."""
    x = _dense(x, (p1, p2, beta), gate)
    call = NormCall(x, norm, (p1, p2, beta), activation=activation, gate=gate, batch=batch)
    return NormGradients(*call.backward(like(grad, x), x, _statistics(statistics, x.shape[1])))


def batch_norm_meta_forward(
    x: Tensor, norm: Norm, p1: Tensor, p2: Tensor, generator: Generator, *, gate: str = "sigmoid"
) -> tuple[Tensor, Tensor, Tensor]:
    """Meta-ACON of batch_norm(x), the statistics as `batch_norm_forward` returns them, and what else backward needs.

    The last result holds N·C numbers, and then what `split_saved` names.
    """
    x = _dense(x, (p1, p2), gate, meta=True)
    y, statistics, saved = NormMetaCall(x, norm, (p1, p2), generator, gate=gate).forward(x)
    return y, statistics, saved


def batch_norm_meta_backward(
    grad: Tensor,
    x: Tensor,
    norm: Norm,
    p1: Tensor,
    p2: Tensor,
    generator: Generator,
    statistics: Tensor,
    saved: Tensor,
    *,
    batch: bool,
    gate: str = "sigmoid",
) -> tuple[Tensor, ...]:
    """Gradients of x, weight, bias, p1, p2 and the generator's first eight, absent ones included."""
    x = _dense(x, (p1, p2), gate, meta=True)
    call = NormMetaCall(x, norm, (p1, p2), generator, gate=gate, batch=batch)
    given = _statistics(statistics, x.shape[1]), one(saved, saved.dtype)
    if not call.made(given):
        raise ShapeError(f"saved is {saved.dtype} of shape {tuple(saved.shape)}; that is not what forward made")
    return call.backward(like(grad, x), x, *given)


def _dense(x: Tensor, slopes: tuple[Tensor, ...], gate: str, *, meta: bool = False) -> Tensor:
    if x.ndim < 2 or x.numel() == 0:
        raise KernelUnavailableError(str(supports_norm(x)))
    return planned(x, slopes, 1, gate, meta=meta)[0]


# aconite_batch_norm_running behind its first pointer: mean, var, steps, share, count, c, dtype, reserved.
_RUNNING = struct.Struct("@3Pd2q2i")


class StatisticsUpdate:
    """Moves running statistics, in place, by those of a batch of `count` values a channel, as torch's BatchNorm does.

    Bound to where the buffers lie: good as long as they stay there. ``StatisticsUpdate.of`` gives None where the
    buffers are of another kind than the library knows.

    Attributes:
        buffers: what it moves.
        update: the C function, of a record that begins with the pointer to what forward saved.
        rest: the record behind that pointer.
    """

    def __init__(self, buffers: tuple[Tensor, ...], momentum: float | None, count: int) -> None:
        mean, var, *steps = self.buffers = buffers
        self.update = library().aconite_batch_norm_update
        self.rest = _RUNNING.pack(
            *(mean.data_ptr(), var.data_ptr(), steps[0].data_ptr() if steps else 0),
            *(-1.0 if momentum is None else momentum, count, mean.numel(), DTYPES[mean.dtype], 0),
        )

    @classmethod
    def of(
        cls, mean: Tensor, var: Tensor, steps: Tensor | None, momentum: float | None, count: int
    ) -> StatisticsUpdate | None:
        buffers = (mean, var) if steps is None else (mean, var, steps)
        for tensor in buffers:
            if not (tensor.is_cpu and tensor.is_contiguous() and in_memory(tensor)) or tensor.is_inference():
                return None
        dtype = mean.dtype
        if dtype not in (torch.float32, torch.float64) or var.dtype is not dtype:
            return None
        if steps is not None and steps.dtype is not torch.int64:
            return None
        return cls(buffers, momentum, count)

    def __call__(self, statistics: Tensor) -> None:
        """By what `batch_norm_forward` returned: the mean, and the variance made unbiased."""
        check(self.update(POINTER.pack(statistics.data_ptr()) + self.rest))
        torch.autograd.graph.increment_version(self.buffers)


def _statistics(statistics: Tensor, c: int) -> Tensor:
    if statistics.shape != (2, c):
        raise ShapeError(f"statistics is of shape {tuple(statistics.shape)}; expected (2, {c})")
    return one(statistics, torch.float64)  # a saved-tensor hook may have made them shorter
