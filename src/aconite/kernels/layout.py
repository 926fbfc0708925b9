"""How a tensor lies in memory, in the kernels' terms: [n][c][l] (channels first) or [n][l][c] (channels last)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Dense", "dense", "parameter_strides", "same_order"]

CHANNELS_FIRST, CHANNELS_LAST = 0, 1


class Dense(NamedTuple):
    """`samples` is False where n does not count dimension 0, so that only scalar and per-channel parameters fit."""

    n: int
    c: int
    l: int  # noqa: E741 - n, c, l is the vocabulary of the C side
    layout: int
    samples: bool


def dense(shape: Sequence[int], strides: Sequence[int], channel_dim: int) -> Dense | None:
    """The view of a dense tensor in any memory order, or None if it has gaps, overlaps or repeats."""
    rank = len(shape)
    channel = channel_dim % rank
    width = shape[channel]
    if 0 in shape:
        n = shape[0] if channel else 1
        return Dense(n, width, 0 if 0 in (n, width) else math.prod(shape) // (n * width), CHANNELS_FIRST, True)
    # Dimensions of size one may have any stride; the rest, sorted by stride, must tile the memory without gaps.
    order = sorted((d for d in range(rank) if shape[d] > 1), key=lambda d: -strides[d])
    expected = 1
    for d in reversed(order):
        if strides[d] != expected:
            return None
        expected *= shape[d]
    if width == 1:
        n = shape[0] if channel else 1
        outermost = not channel or n == 1 or order[0] == 0
        return Dense(n, 1, expected // n, CHANNELS_FIRST, True) if outermost else Dense(1, 1, expected, 0, False)
    place = order.index(channel)
    before = math.prod(shape[d] for d in order[:place])
    after = math.prod(shape[d] for d in order[place + 1 :])
    n = shape[0] if channel else 1
    outermost = n == 1 or order[0] == 0
    if after == 1:
        if outermost:
            return Dense(n, width, before // n, CHANNELS_LAST, True)
        return Dense(1, width, before, CHANNELS_LAST, False)
    return Dense(before, width, after, CHANNELS_FIRST, outermost and before == n)


def parameter_strides(shape: Sequence[int], x_shape: Sequence[int], channel_dim: int) -> tuple[int, int] | None:
    """Element strides over (n, c) of a contiguous parameter; None if neither scalar, per channel nor per sample."""
    if math.prod(shape) == 1:
        return 0, 0
    channel = channel_dim % len(x_shape)
    n, c = (x_shape[0] if channel else 1), x_shape[channel]
    if len(shape) == len(x_shape):
        kept = {0, channel} if channel else {channel}
        if all(size == 1 or (d in kept and size == x_shape[d]) for d, size in enumerate(shape)):
            n_size = shape[0] if channel else 1
            c_size = shape[channel]
            return (c_size if n_size > 1 else 0), (1 if c_size > 1 else 0)
    if tuple(shape) == (c,):
        return 0, 1
    if tuple(shape) == (n, c):
        return (c if n > 1 else 0), (1 if c > 1 else 0)
    if tuple(shape) == (n, 1):
        return 1, 0
    return None


def same_order(shape: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two stride lists mean the same memory order (strides of size-one dimensions mean nothing)."""
    return all(size == 1 or i == j for size, i, j in zip(shape, a, b, strict=True))
