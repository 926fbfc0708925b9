"""The kernels of devices and dtypes that have none of their own: torch operations, in place where they can be.

The equations are those of `aconite.reference`, whose differentiable form would make two to three times the passes.
Arguments are aligned already: they broadcast against the first tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aconite.kernels.alignment import Scalar

__all__ = ["acon_backward", "acon_c_backward", "acon_c_forward", "acon_forward"]

Four = tuple[Tensor, Tensor, Tensor, Tensor]
SURE = 1000.0
"""Beyond |z| = 1000 a gate is 0 or 1 in float64 too; stopping there keeps inf · 0 out of the gradient."""


def _wide(*values: Scalar) -> list[Tensor]:
    tensors = [v for v in values if isinstance(v, Tensor)]
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    device = tensors[0].device
    return [
        _mutable(v).to(dtype) if isinstance(v, Tensor) else torch.tensor(v, dtype=dtype, device=device) for v in values
    ]


def _mutable(t: Tensor) -> Tensor:
    """Zeros without memory refuse operations in place, and so does what is multiplied by them."""
    return t.clone() if t._is_zerotensor() else t


def _finite(t: Tensor) -> Tensor:
    largest = torch.finfo(t.dtype).max
    return t.clamp(-largest, largest)


def _gate_(z: Tensor, gate: str) -> Tensor:
    return z.sigmoid_() if gate == "sigmoid" else z.add_(3).clamp_(0, 6).div_(6)


def _share_and_steepness(z: Tensor, gate: str) -> tuple[Tensor, Tensor]:
    """σ(z) + z·σ'(z) and σ'(z)."""
    up = _gate_(z.clone(), gate)
    steep = up * (1 - up) if gate == "sigmoid" else (z.abs() < 3).to(z.dtype).div_(6)
    return up.addcmul_(z, steep), steep


def _switch(factor: Tensor, value: Tensor) -> Tensor:
    factor = _finite(factor)
    return (factor * value).masked_fill_(factor == 0, 0).clamp_(-SURE, SURE)  # 0 · inf is 0


def _as(value: Tensor, x: Tensor) -> Tensor:
    """The result in x's dtype and memory order, which an operator's fake promises."""
    if value.dtype == x.dtype and value.stride() == x.stride():
        return value
    return torch.empty_like(x).copy_(value)


def acon_c_forward(x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar, gate: str) -> Tensor:
    """x·(p1·σ(z) + p2·(1 − σ(z))), z = β(p1 − p2)x."""
    x_, p1_, p2_, beta_ = _wide(x, p1, p2, beta)
    up = _gate_(_switch(_finite(beta_) * _finite(p1_ - p2_), x_), gate)
    slope = (up * p1_).add_((1 - up).mul_(p2_))
    y = slope * x_
    y.masked_fill_(slope == 0, 0)  # inf · 0
    return _as(y, x)


def acon_c_backward(grad: Tensor, x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar, gate: str) -> Four:
    """Gradients of x, p1, p2, beta, summed to their shapes."""
    g, x_, p1_, p2_, beta_ = _wide(grad, x, p1, p2, beta)
    difference = _finite(p1_ - p2_)
    share, steep = _share_and_steepness(_switch(_finite(beta_) * difference, x_), gate)
    x_ = _finite(x_)
    distance = _finite(difference * x_)
    dbeta = steep.mul_(g).mul_(distance).mul_(distance)
    first, rest = share * g, (1 - share).mul_(g)
    dx = first * p1_ + rest * p2_
    sums = first.mul_(x_).sum_to_size(p1_.shape), rest.mul_(x_).sum_to_size(p2_.shape), dbeta.sum_to_size(beta_.shape)
    return _as(dx, x), *sums


def acon_forward(a: Tensor, b: Tensor, beta: Scalar, gate: str) -> Tensor:
    """a·σ(z) + b·(1 − σ(z)), z = β(a − b): unlike (a − b)·σ(z) + b it loses nothing where |b| is far above |a|."""
    a_, b_, beta_ = _wide(a, b, beta)
    up = _gate_(_switch(beta_, _difference(a_, b_)), gate)
    down = 1 - up
    mine, other = a_ * up, b_ * down
    mine.masked_fill_(up == 0, 0)  # inf · 0
    other.masked_fill_(down == 0, 0)
    return _as(mine.add_(other), a)


def acon_backward(grad: Tensor, a: Tensor, b: Tensor, beta: Scalar, gate: str) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a, b, beta, summed to their shapes."""
    g, a_, b_, beta_ = _wide(grad, a, b, beta)
    difference = _difference(a_, b_)
    share, steep = _share_and_steepness(_switch(beta_, difference), gate)
    difference = _finite(difference)
    da = share.mul_(g)
    dbeta = steep.mul_(g).mul_(difference).mul_(difference).sum_to_size(beta_.shape)
    return _as(da, a), _as(g - da, b), dbeta


def _difference(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).masked_fill_(a.isinf() & (a == b), 0)
