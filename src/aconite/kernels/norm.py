"""BatchNorm and the activation behind it, fused, as functions of tensors; the channels are dimension 1."""

from __future__ import annotations

import ctypes
import struct
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, SettingsError, ShapeError
from ._generator import Generator
from ._library import load
from ._plan import ARITHMETIC, DTYPES, KEPT, Plan, check, refusal
from ._pointers import arithmetic, like, planned
from .cpu_meta import meta_call

__all__ = [
    "ACTIVATIONS",
    "Norm",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_meta_backward",
    "batch_norm_meta_forward",
    "meta_saved_size",
    "serves_norm",
    "supports_norm",
    "update_statistics",
]

ACTIVATIONS = {"acon_c": 0, "identity": 1, "relu": 2}


class Norm(NamedTuple):
    """A BatchNorm: with `mean` and `var` it normalises by them, without by the batch's own statistics."""

    weight: Tensor | None = None
    bias: Tensor | None = None
    mean: Tensor | None = None
    var: Tensor | None = None
    eps: float = 1e-5


class NormGradients(NamedTuple):
    """Gradients of x and of vectors, one number per channel; the last three are there for ACON-C alone."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    p1: Tensor
    p2: Tensor
    beta: Tensor


_SIGNATURES = (
    ("aconite_batch_norm_forward", 8),
    ("aconite_batch_norm_backward", 10),
    ("aconite_batch_norm_meta_forward", 9),
    ("aconite_batch_norm_meta_backward", 11),
)


_declared: set[ctypes.CDLL] = set()


def _functions() -> ctypes.CDLL:
    functions = load().functions
    assert functions is not None  # a plan exists only where the library does
    if functions not in _declared:
        for name, count in _SIGNATURES:
            function = getattr(functions, name)
            function.argtypes = [ctypes.c_void_p] * count
            function.restype = ctypes.c_int32
        functions.aconite_batch_norm_update.argtypes = [
            *[ctypes.c_void_p] * 4,
            *(ctypes.c_double, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32),
        ]
        _declared.add(functions)
    return functions


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
    """Whether `supports_norm` is None; a kind of call once found served is found again at once."""
    tensors = (x, *parameters)
    for tensor in tensors:
        if type(tensor) not in _PLAIN or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_nested:
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


# aconite_batch_norm: four pointers, eps, statistics, activation.
_RECORD = struct.Struct("@4Pd2i")


def _record(norm: Norm, c: int, dtype: torch.dtype, activation: str, batch: bool) -> tuple[bytes, list[Tensor]]:
    """The C record, and the copies that must live as long as it."""
    if activation not in ACTIVATIONS:
        raise SettingsError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    pointers, kept = [], []
    for tensor in norm[:4]:
        if tensor is None:
            pointers.append(0)
            continue
        if tensor.numel() != c:
            raise ShapeError(f"a norm of {c} channels has a tensor of shape {tuple(tensor.shape)}; expected ({c},)")
        if not tensor.is_cpu:
            raise KernelUnavailableError(f"the native kernels run on the CPU, not on {tensor.device}")
        (converted,) = arithmetic(dtype, tensor)
        kept.append(converted)
        pointers.append(converted.data_ptr())
    return _RECORD.pack(*pointers, norm.eps, 1 if batch else 2, ACTIVATIONS[activation]), kept


def _view(x: Tensor, parameters: tuple[Tensor, ...], gate: str, meta: bool = False) -> tuple[Tensor, Plan]:
    if x.ndim < 2 or x.numel() == 0:
        raise KernelUnavailableError(str(supports_norm(x)))
    return planned(x, parameters, 1, gate, meta=meta)


def batch_norm_forward(
    x: Tensor, norm: Norm, p1: Tensor, p2: Tensor, beta: Tensor, *, activation: str = "acon_c", gate: str = "sigmoid"
) -> tuple[Tensor, Tensor]:
    """y = activation(batch_norm(x)), and mean and biased variance (2, C) in float64, of which backward makes use.

    p1, p2 and beta, scalar or per channel, are those of ACON-C; "identity" and "relu" do not read them.
    """
    x, plan = _view(x, (p1, p2, beta), gate)
    p1, p2, beta = arithmetic(x.dtype, p1, p2, beta)
    record, kept = _record(norm, x.shape[1], x.dtype, activation, norm.mean is None)
    y = torch.empty_like(x)
    statistics = torch.empty((2, x.shape[1]), dtype=torch.float64)
    check(
        _functions().aconite_batch_norm_forward(
            *(plan.address, record, x.data_ptr(), p1.data_ptr(), p2.data_ptr(), beta.data_ptr()),
            *(y.data_ptr(), statistics.data_ptr()),
        )
    )
    del kept
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
    x, plan = _view(x, (p1, p2, beta), gate)
    c = x.shape[1]
    p1, p2, beta = arithmetic(x.dtype, p1, p2, beta)
    record, kept = _record(norm._replace(mean=None, var=None), c, x.dtype, activation, batch)
    grad = like(grad, x)
    dx = torch.empty_like(x)
    gradients = torch.empty((5, c), dtype=p1.dtype)
    check(
        _functions().aconite_batch_norm_backward(
            *(plan.address, record, grad.data_ptr(), x.data_ptr(), p1.data_ptr(), p2.data_ptr(), beta.data_ptr()),
            *(_statistics(statistics, c).data_ptr(), dx.data_ptr(), gradients.data_ptr()),
        )
    )
    del kept
    return NormGradients(dx, *gradients.unbind())


def batch_norm_meta_forward(
    x: Tensor, norm: Norm, p1: Tensor, p2: Tensor, generator: Generator, *, gate: str = "sigmoid"
) -> tuple[Tensor, Tensor, Tensor]:
    """Meta-ACON of batch_norm(x), the statistics as `batch_norm_forward` returns them, and what else backward needs.

    The last result holds N·C numbers, and then what `split_saved` names.
    """
    x, plan = _view(x, (p1, p2), gate, True)
    call, copies = meta_call(plan, x.dtype, p1, p2, generator)
    record, kept = _record(norm, plan.c, x.dtype, "acon_c", norm.mean is None)
    y = torch.empty_like(x)
    statistics = torch.empty((2, plan.c), dtype=torch.float64)
    saved = torch.empty(meta_saved_size(plan.n, plan.c, call.h), dtype=ARITHMETIC[x.dtype])
    check(
        _functions().aconite_batch_norm_meta_forward(
            *(plan.address, record, call.record, x.data_ptr(), call.pointers[0], call.pointers[1]),
            *(y.data_ptr(), statistics.data_ptr(), saved.data_ptr()),
        )
    )
    del kept, copies
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
    x, plan = _view(x, (p1, p2), gate, True)
    call, copies = meta_call(plan, x.dtype, p1, p2, generator)
    record, kept = _record(norm._replace(mean=None, var=None), plan.c, x.dtype, "acon_c", batch)
    c, h, want = plan.c, call.h, ARITHMETIC[x.dtype]
    expected = meta_saved_size(plan.n, c, h)
    if saved.numel() != expected or saved.dtype is not want or not saved.is_contiguous():
        raise ShapeError(f"saved has {saved.numel()} numbers of {saved.dtype}; forward made {expected} of {want}")
    grad = like(grad, x)
    dx = torch.empty_like(x)
    gradients = torch.empty(2 * h * c + 7 * c + 3 * h, dtype=want)
    check(
        _functions().aconite_batch_norm_meta_backward(
            *(plan.address, record, call.record, grad.data_ptr(), x.data_ptr(), call.pointers[0], call.pointers[1]),
            *(_statistics(statistics, c).data_ptr(), saved.data_ptr(), dx.data_ptr(), gradients.data_ptr()),
        )
    )
    del kept, copies
    sizes = [c, c, c, c, h * c, h, h, h, h * c, c, c, c]
    dweight, dbias, dp1, dp2, dw1, db1, dg1, do1, dw2, db2, dg2, do2 = gradients.split_with_sizes(sizes)
    dw1, dw2 = dw1.view(generator.fc1_weight.shape), dw2.view(generator.fc2_weight.shape)
    return dx, dweight, dbias, dp1, dp2, dw1, dw2, db1, db2, dg1, do1, dg2, do2


def update_statistics(
    statistics: Tensor, mean: Tensor, var: Tensor, steps: Tensor | None, momentum: float | None, count: int
) -> bool:
    """Move running statistics, in place, by those of a batch of `count` values a channel, as torch's BatchNorm does.

    False, with nothing done, where the buffers are of another kind than the library knows.
    """
    buffers = (mean, var) if steps is None else (mean, var, steps)
    for tensor in buffers:
        if not tensor.is_cpu or not tensor.is_contiguous() or tensor.is_inference():
            return False
    dtype = mean.dtype
    if dtype not in (torch.float32, torch.float64) or var.dtype is not dtype:
        return False
    if steps is not None and steps.dtype is not torch.int64:
        return False
    _functions().aconite_batch_norm_update(
        *(statistics.data_ptr(), mean.data_ptr(), var.data_ptr(), None if steps is None else steps.data_ptr()),
        *(-1.0 if momentum is None else momentum, count, mean.numel(), DTYPES[dtype]),
    )
    torch.autograd.graph.increment_version(buffers)
    return True


def meta_saved_size(n: int, c: int, h: int) -> int:
    """How many numbers `batch_norm_meta_forward` saves."""
    return 4 * n * c + n * h + 2 * h + 2 * c


def _statistics(statistics: Tensor, c: int) -> Tensor:
    if statistics.shape != (2, c) or statistics.dtype is not torch.float64 or not statistics.is_contiguous():
        raise ShapeError(
            f"statistics is {statistics.dtype} of shape {tuple(statistics.shape)}; expected float64 (2, {c})"
        )
    return statistics
