"""A bound call as data, for a caller that is not Python: which C functions, on what, and what comes of it."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["DX", "GRAD", "GRADIENTS", "POINTER", "SAVED", "Argument", "Recipe", "X", "Y", "address", "pieces"]

POINTER = struct.Struct("@P")

# Arguments that differ from call to call; the compiled caller knows them by these numbers.
X, Y, GRAD, DX, GRADIENTS, SAVED = range(1, 7)

Argument = int | bytes | tuple[int, int]
"""An address, a record, or (one of the above, bytes from its beginning); SAVED + i is the i-th tensor beside y."""


class Recipe(NamedTuple):
    """What `forward` and `backward` of a bound call do: the C functions, their arguments, and what comes of them."""

    forward: int
    forward_arguments: tuple[int | bytes | tuple[int, int], ...]
    backward: int
    backward_arguments: tuple[int | bytes | tuple[int, int], ...]
    # Shape, and an empty tensor of the dtype, of each tensor that forward returns beside y.
    beside: tuple[tuple[tuple[int, ...], Tensor], ...]
    # Shape of each gradient behind x's, and where it begins in the vector that holds all of them.
    gradients: tuple[tuple[tuple[int, ...], int], ...]
    # Of that vector: its length, and an empty tensor of its dtype.
    length: int
    dtype: Tensor
    # Backward writes x's gradient even where nobody asks for it.
    writes_dx: bool


def address(function: Any) -> int:
    """Where a function of the C library begins."""
    found = ctypes.cast(function, ctypes.c_void_p).value
    assert found is not None
    return found


def pieces(shapes: Sequence[Sequence[int]]) -> tuple[tuple[tuple[tuple[int, ...], int], ...], int]:
    """`Recipe.gradients` and `Recipe.length` of gradients of these shapes, one behind the other."""
    starts, count = [], 0
    for shape in shapes:
        starts.append((tuple(shape), count))
        count += torch.Size(shape).numel()
    return tuple(starts), count
