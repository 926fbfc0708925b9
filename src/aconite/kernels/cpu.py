"""The native CPU kernels as functions of tensors: allocation and pointers here, arithmetic in csrc."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, SettingsError, ShapeError
from ._generator import NORMS, Generator, MetaGradients
from ._library import load
from ._plan import ARITHMETIC, Plan, check, meta_refusal, plan_for, refusal
from .layout import same_order

__all__ = [
    "acon_c_backward",
    "acon_c_forward",
    "meta_acon_c_backward",
    "meta_acon_c_forward",
    "smooth_maximum_backward",
    "smooth_maximum_forward",
    "supports",
    "supports_meta",
]


def supports(x: Tensor, *parameters: Tensor, channel_dim: int = 1) -> str | None:
    """None if the native kernels serve x with these parameters (p1, p2, beta), else the reason why not."""
    return refusal(x, parameters, channel_dim)


def supports_meta(x: Tensor, p1: Tensor, p2: Tensor, *, channel_dim: int = 1) -> str | None:
    """None if the native kernels serve Meta-ACON on x, else the reason why not."""
    return meta_refusal(x, p1, p2, channel_dim)


def acon_c_forward(
    x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> Tensor:
    """y = (p1 - p2) x gate(beta (p1 - p2) x) + p2 x, in x's dtype and memory format."""
    x, plan = _planned(x, (p1, p2, beta), channel_dim, gate)
    p1, p2, beta = _arithmetic(x.dtype, p1, p2, beta)
    y = torch.empty_like(x)
    check(
        _functions().aconite_acon_c_forward(
            plan.address, x.data_ptr(), p1.data_ptr(), p2.data_ptr(), beta.data_ptr(), y.data_ptr()
        )
    )
    return y


def acon_c_backward(
    grad: Tensor,
    x: Tensor,
    p1: Tensor,
    p2: Tensor,
    beta: Tensor,
    *,
    channel_dim: int = 1,
    gate: str = "sigmoid",
    needs: tuple[bool, bool, bool, bool] = (True, True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, p1, p2, beta in one pass over memory; `needs` says which are wanted, the others are None."""
    x, plan = _planned(x, (p1, p2, beta), channel_dim, gate)
    p1, p2, beta = _arithmetic(x.dtype, p1, p2, beta)
    grad = _like(grad, x)
    dp1 = torch.empty_like(p1) if needs[1] else None
    dp2 = torch.empty_like(p2) if needs[2] else None
    dbeta = torch.empty_like(beta) if needs[3] else None
    dx = torch.empty_like(x) if needs[0] else None
    check(
        _functions().aconite_acon_c_backward(
            plan.address,
            grad.data_ptr(),
            x.data_ptr(),
            p1.data_ptr(),
            p2.data_ptr(),
            beta.data_ptr(),
            None if dx is None else dx.data_ptr(),
            None if dp1 is None else dp1.data_ptr(),
            None if dp2 is None else dp2.data_ptr(),
            None if dbeta is None else dbeta.data_ptr(),
        )
    )
    return dx, dp1, dp2, dbeta


def smooth_maximum_forward(
    a: Tensor, b: Tensor, beta: Tensor, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> Tensor:
    """y = (a - b) gate(beta (a - b)) + b of two tensors of one shape and dtype, in a's memory format."""
    a, plan = _planned(a, (beta,), channel_dim, gate)
    (beta,) = _arithmetic(a.dtype, beta)
    b = _like(b, a)
    y = torch.empty_like(a)
    check(
        _functions().aconite_smooth_maximum_forward(
            plan.address, a.data_ptr(), b.data_ptr(), beta.data_ptr(), y.data_ptr()
        )
    )
    return y


def smooth_maximum_backward(
    grad: Tensor,
    a: Tensor,
    b: Tensor,
    beta: Tensor,
    *,
    channel_dim: int = 1,
    gate: str = "sigmoid",
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a, b and beta in one pass over memory."""
    a, plan = _planned(a, (beta,), channel_dim, gate)
    (beta,) = _arithmetic(a.dtype, beta)
    b, grad = _like(b, a), _like(grad, a)
    da, db = torch.empty_like(a), torch.empty_like(a)
    dbeta = torch.empty_like(beta) if needs[2] else None
    check(
        _functions().aconite_smooth_maximum_backward(
            plan.address,
            grad.data_ptr(),
            a.data_ptr(),
            b.data_ptr(),
            beta.data_ptr(),
            da.data_ptr(),
            db.data_ptr(),
            None if dbeta is None else dbeta.data_ptr(),
        )
    )
    return (da if needs[0] else None), (db if needs[1] else None), dbeta


def meta_acon_c_forward(
    x: Tensor, p1: Tensor, p2: Tensor, generator: Generator, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> tuple[Tensor, Tensor]:
    """ACON-C whose beta the generator makes from x's mean over positions; returns y and what to save for backward.

    `split_saved` names the parts of that vector, among them beta and the batch statistics.
    """
    x, plan = _planned(x, (p1, p2), channel_dim, gate, meta=True)
    n, c, h = plan.n, plan.c, generator.fc1_weight.shape[0]
    record, kept = _generator_record(x.dtype, c, h, generator)
    p1, p2 = _arithmetic(x.dtype, p1, p2)
    y = torch.empty_like(x)
    saved = torch.empty(_saved_size(n, c, h), dtype=p1.dtype)
    check(
        _functions().aconite_meta_acon_c_forward(
            plan.address, record, x.data_ptr(), p1.data_ptr(), p2.data_ptr(), y.data_ptr(), saved.data_ptr()
        )
    )
    del kept
    return y, saved


def meta_acon_c_backward(
    grad: Tensor,
    x: Tensor,
    p1: Tensor,
    p2: Tensor,
    generator: Generator,
    saved: Tensor,
    *,
    channel_dim: int = 1,
    gate: str = "sigmoid",
) -> MetaGradients:
    """All gradients of `meta_acon_c_forward`, through beta and the pooling as well."""
    x, plan = _planned(x, (p1, p2), channel_dim, gate, meta=True)
    c, h = plan.c, generator.fc1_weight.shape[0]
    record, kept = _generator_record(x.dtype, c, h, generator)
    p1, p2 = _arithmetic(x.dtype, p1, p2)
    grad = _like(grad, x)
    dx = torch.empty_like(x)
    expected = _saved_size(plan.n, c, h)
    if saved.numel() != expected or saved.dtype is not p1.dtype or not saved.is_contiguous():
        raise ShapeError(f"saved has {saved.numel()} numbers of {saved.dtype}; forward made {expected} of {p1.dtype}")
    # One vector for all of them, cut by one call: ten allocations would cost twice that.
    sizes = [c, c, h * c, h, h, h, c * h, c, c, c]
    gradients = torch.empty(sum(sizes), dtype=p1.dtype)
    check(
        _functions().aconite_meta_acon_c_backward(
            plan.address,
            record,
            grad.data_ptr(),
            x.data_ptr(),
            p1.data_ptr(),
            p2.data_ptr(),
            saved.data_ptr(),
            dx.data_ptr(),
            gradients.data_ptr(),
        )
    )
    del kept
    dp1, dp2, dw1, db1, dg1, do1, dw2, db2, dg2, do2 = gradients.split_with_sizes(sizes)
    return MetaGradients(
        dx,
        dp1 if p1.shape == dp1.shape else dp1[: p1.numel()].view(p1.shape),
        dp2 if p2.shape == dp2.shape else dp2[: p2.numel()].view(p2.shape),
        dw1.view(generator.fc1_weight.shape),
        dw2.view(generator.fc2_weight.shape),
        None if generator.fc1_bias is None else db1,
        None if generator.fc2_bias is None else db2,
        None if generator.bn1_weight is None else dg1,
        None if generator.bn1_bias is None else do1,
        None if generator.bn2_weight is None else dg2,
        None if generator.bn2_bias is None else do2,
    )


def _saved_size(n: int, c: int, h: int) -> int:
    return 3 * n * c + n * h + 2 * h + 2 * c


# aconite_generator: twelve pointers, eps1, eps2, scale, hidden, norm, reserved. Packed anew at every call, because that
# takes less time than finding out whether any of the tensors has changed.
_RECORD = struct.Struct("@12P3dq2i")


def _generator_record(dtype: torch.dtype, c: int, h: int, g: Generator) -> tuple[bytes, list[Tensor]]:
    """The C record, and the tensors that must live as long as it."""
    w1, w2, b1, b2, g1, o1, g2, o2, m1, v1, m2, v2, norm, eps1, eps2, scale = g
    if norm not in NORMS:
        raise SettingsError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    if norm == "running" and (m1 is None or v1 is None or m2 is None or v2 is None):
        raise SettingsError('norm="running" needs bn1_mean, bn1_var, bn2_mean and bn2_var')
    want = ARITHMETIC[dtype]
    pointers = []
    kept = []
    for tensor, size in (
        *((w1, h * c), (b1, h), (g1, h), (o1, h), (m1, h), (v1, h)),
        *((w2, h * c), (b2, c), (g2, c), (o2, c), (m2, c), (v2, c)),
    ):
        if tensor is None:
            pointers.append(0)
            continue
        if tensor.numel() != size:
            raise ShapeError(
                f"a generator for {c} channels with {h} hidden has a tensor of shape {tuple(tensor.shape)}; "
                f"expected fc1_weight ({h}, {c}), fc2_weight ({c}, {h}), first norm and bias ({h},), second ({c},)"
            )
        if not tensor.is_cpu:
            raise KernelUnavailableError(f"the native kernels run on the CPU, not on {tensor.device}")
        if tensor.dtype is not want or not tensor.is_contiguous():
            tensor = _one(tensor, want)
            kept.append(tensor)
        pointers.append(tensor.data_ptr())
    return _RECORD.pack(*pointers, eps1, eps2, scale, h, NORMS[norm], 0), kept


def _functions() -> ctypes.CDLL:
    functions = load().functions
    assert functions is not None  # a plan exists only where the library does
    return functions


def _planned(
    x: Tensor, parameters: Sequence[Tensor], channel_dim: int, gate: str, *, meta: bool = False
) -> tuple[Tensor, Plan]:
    plan = plan_for(x, parameters, channel_dim, gate, meta)
    if plan.contiguous:
        x = x.contiguous()
        plan = plan_for(x, parameters, channel_dim, gate, meta)
    return x, plan


def _one(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype is not dtype:
        tensor = tensor.to(dtype)
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _arithmetic(dtype: torch.dtype, *parameters: Tensor) -> list[Tensor]:
    want = ARITHMETIC[dtype]
    return [_one(parameter, want) for parameter in parameters]


def _like(tensor: Tensor, x: Tensor) -> Tensor:
    """`tensor` in x's memory order: itself if it lies so, else one copy (the stride-0 gradient of sum(), for one)."""
    if tensor.shape != x.shape:
        raise ShapeError(f"a tensor of shape {tuple(tensor.shape)} does not belong to x of shape {tuple(x.shape)}")
    alike = tensor.dtype is x.dtype and tensor.is_cpu and tensor.layout is torch.strided
    if alike and (tensor.stride() == x.stride() or same_order(x.shape, tensor.stride(), x.stride())):
        return tensor
    return torch.empty_like(x).copy_(tensor)
