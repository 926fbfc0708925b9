"""Where memory lies decides the order of a walk (csrc/vectors.h), and nothing of what comes out."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from aconite.kernels._recipe import DX, GRAD, GRADIENTS, SAVED, Argument, X, Y
from aconite.kernels.acon_call import AconCCall
from aconite.kernels.bound_call import BoundCall
from aconite.kernels.norm import Norm
from aconite.kernels.norm_call import NormCall

PAGE = 4096
C, ROWS = 1024, 21  # float32 rows a page apart; five times four of them and one more


def run(function: int, arguments: Sequence[Argument], tensors: dict[int, Tensor]) -> None:
    given = [tensors[a[0]].data_ptr() + a[1] if isinstance(a, tuple) else a for a in arguments]
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * len(given))
    assert kind(function)(*given) == 0


def behind(x: Tensor, count: int) -> Tensor:
    """Memory as x's, so many bytes behind it in its page."""
    room = torch.full((x.numel() + 2 * PAGE,), float("nan"))
    start = (x.data_ptr() + count - room.data_ptr()) % PAGE // 4
    return torch.as_strided(room, x.shape, x.stride(), start)


def results(call: BoundCall, x: Tensor, grad: Tensor, count: int) -> list[Tensor]:
    """y, what is saved beside it, dx and the other gradients."""
    recipe = call.recipe()
    y, dx, gradients = behind(x, count), behind(x, count), torch.zeros(recipe.length)
    saved = {SAVED + i: torch.empty(shape, dtype=of.dtype) for i, (shape, of) in enumerate(recipe.beside)}
    run(recipe.forward, recipe.forward_arguments, {X: x, Y: y, **saved})
    given = {X: x, GRAD: grad, DX: dx, GRADIENTS: gradients, **saved}
    run(recipe.backward, recipe.backward_arguments, given)
    return [y, dx, gradients, *saved.values()]


@pytest.mark.parametrize("kind", ["acon_c", "norm and acon_c", "norm and relu"])
def test_rows_a_page_apart_give_the_same_wherever_the_result_lies(isa: str, kind: str) -> None:
    torch.manual_seed(3)
    x, grad = (torch.randn(1, C, ROWS, 1).contiguous(memory_format=torch.channels_last) for _ in range(2))
    vectors = [torch.randn(C) for _ in range(5)]
    call: BoundCall
    if kind == "acon_c":
        call = AconCCall(x, vectors[2:], 1, "sigmoid")
    else:
        norm = Norm(*vectors[:2], None, None)
        call = NormCall(x, norm, vectors[2:], activation=kind.removeprefix("norm and "))
    expected = results(call, x, grad, PAGE // 2)
    assert torch.equal(expected[0], call.forward(x)[0])
    for count in (0, 64, 256, PAGE - 64):
        assert all(map(torch.equal, results(call, x, grad, count), expected))
