"""Tensors as the C side takes them: dense, of its arithmetic's dtype, in x's memory order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError
from ._plan import ARITHMETIC, Plan, plan_for
from .layout import same_order

__all__ = ["arithmetic", "like", "one", "planned"]


def planned(
    x: Tensor, parameters: Sequence[Tensor], channel_dim: int, gate: str, *, meta: bool = False
) -> tuple[Tensor, Plan]:
    """x, copied without gaps and repeats if its memory has any, and the plan of the call."""
    plan = plan_for(x, parameters, channel_dim, gate, meta)
    if plan.copies:
        x = torch.empty_like(x).copy_(x)  # in the order in which the operators' fakes promise the result
        plan = plan_for(x, parameters, channel_dim, gate, meta)
    return x, plan


def one(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in this dtype and contiguous: itself if it is so already."""
    if tensor.dtype is not dtype:
        tensor = tensor.to(dtype)
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def arithmetic(dtype: torch.dtype, *parameters: Tensor) -> list[Tensor]:
    """The parameters in the dtype that values of `dtype` are computed in."""
    want = ARITHMETIC[dtype]
    return [one(parameter, want) for parameter in parameters]


def like(tensor: Tensor, x: Tensor) -> Tensor:
    """`tensor` in x's memory order: itself if it lies so, else one copy (the stride-0 gradient of sum(), for one)."""
    if tensor.dtype is x.dtype and tensor.is_cpu and tensor.shape == x.shape:
        if tensor.layout is torch.strided and (
            tensor.stride() == x.stride() or same_order(x.shape, tensor.stride(), x.stride())
        ):
            return tensor
    elif tensor.shape != x.shape:
        raise ShapeError(f"a tensor of shape {tuple(tensor.shape)} does not belong to x of shape {tuple(x.shape)}")
    return torch.empty_like(x).copy_(tensor)
