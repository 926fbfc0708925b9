"""Tensors as the C side takes them: dense, of its arithmetic's dtype, in x's memory order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError
from ._memory import in_memory
from ._plan import ARITHMETIC, Plan, plan_for
from .layout import same_order

__all__ = ["arithmetic", "like", "one", "planned"]


def planned(
    x: Tensor, parameters: Sequence[Tensor], channel_dim: int, gate: str, *, meta: bool = False
) -> tuple[Tensor, Plan]:
    """x, copied if its memory has gaps or repeats or does not hold its values, and the plan of the call."""
    plan = plan_for(x, parameters, channel_dim, gate, meta)
    if plan.copies or not in_memory(x):
        x = torch.empty_like(x).copy_(x)  # in the order in which the operators' fakes promise the result
        plan = plan_for(x, parameters, channel_dim, gate, meta)
    return x, plan


def one(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in this dtype and contiguous: itself if it lies in memory so already."""
    if tensor.dtype is dtype and tensor.is_contiguous() and in_memory(tensor):
        return tensor
    return torch.empty_like(tensor, dtype=dtype, memory_format=torch.contiguous_format).copy_(tensor)


def arithmetic(dtype: torch.dtype, *parameters: Tensor) -> list[Tensor]:
    """The parameters in the dtype that values of `dtype` are computed in."""
    want = ARITHMETIC[dtype]
    return [one(parameter, want) for parameter in parameters]


def like(tensor: Tensor, x: Tensor) -> Tensor:
    """`tensor` in x's memory order: itself if it lies so, else one copy (the stride-0 gradient of sum(), for one)."""
    if tensor.shape != x.shape:
        raise ShapeError(f"a tensor of shape {tuple(tensor.shape)} does not belong to x of shape {tuple(x.shape)}")
    if (
        tensor.dtype is x.dtype
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and in_memory(tensor)
        and (tensor.stride() == x.stride() or same_order(x.shape, tensor.stride(), x.stride()))
    ):
        return tensor
    return torch.empty_like(x).copy_(tensor)
