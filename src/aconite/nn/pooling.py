"""The squeeze of squeeze-and-excitation, which Meta-ACON shares: the mean over positions, as an image for fc1."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hidden_width", "pooled"]


def hidden_width(channels: int, r: int, hidden: int | None) -> int:
    """max(r, C // r) unless given (reference code).

    >>> hidden_width(64, 16, None), hidden_width(1024, 16, None), hidden_width(64, 16, 4)
    (16, 64, 4)
    """
    return max(r, channels // r) if hidden is None else hidden


def pooled(x: Tensor, channel: int, dtype: torch.dtype) -> Tensor:
    """The mean over all dimensions but sample (the first) and channel, (N, C, 1, 1), summed in float32 at least.

    >>> pooled(torch.ones(2, 5, 3), 2, torch.float32).shape
    torch.Size([2, 3, 1, 1])
    """
    if channel == 0:  # an unbatched input is a batch of one
        x, channel = x.unsqueeze(0), 1
    positions = [d for d in range(1, x.ndim) if d != channel]
    mean = x.mean(positions, dtype=torch.promote_types(x.dtype, torch.float32)) if positions else x
    return mean.to(dtype)[:, :, None, None]
