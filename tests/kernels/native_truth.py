"""ACON-C, its gradients and the sums of absolute terms that error bounds refer to, in float64 and in closed form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Unit of the last place relative to 1, as the bounds count it.
ULP = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10, torch.float64: 2.0**-52}


class Truth(NamedTuple):
    y: Tensor
    slope: Tensor
    terms: tuple[Tensor, Tensor, Tensor]  # dy/dp1, dy/dp2, dy/dbeta, of x's shape


def gates(z: Tensor, hard: bool) -> tuple[Tensor, Tensor, Tensor]:
    """gate(z), gate(-z), gate'(z), each with its own relative accuracy."""
    if hard:
        return (z / 6 + 0.5).clamp(0, 1), (0.5 - z / 6).clamp(0, 1), (z.abs() < 3).double() / 6
    s, r = torch.sigmoid(z), torch.sigmoid(-z)
    return s, r, s * r


def acon_c(x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor, *, hard: bool = False) -> Truth:
    x, p1, p2, beta = (t.double() for t in (x, p1, p2, beta))
    d = p1 - p2
    z = beta * d * x
    s, r, q = gates(z, hard)
    y = x * (p1 * s + p2 * r)
    return Truth(y, p1 * s + p2 * r + d * z * q, (x * (s + z * q), x * (r - z * q), d * d * x * x * q))


def broadcast(parameter: Tensor, x: Tensor, channel_dim: int) -> Tensor:
    """A parameter as the kernels take it -> of x's rank."""
    shape = [1] * x.dim()
    channel = channel_dim % x.dim()
    n, c = (x.shape[0] if channel else 1), x.shape[channel]
    if parameter.dim() == x.dim() and parameter.shape not in {(n, c), (n, 1)}:
        return parameter
    if parameter.numel() == 1:
        return parameter.reshape(shape)
    if parameter.dim() == 1 or parameter.shape == (n, c):
        shape[channel] = c
    if parameter.dim() == 2 and channel:
        shape[0] = n
    return parameter.reshape(shape)
