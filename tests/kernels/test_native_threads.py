"""The same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from aconite.kernels import Generator, cpu, cpu_meta


@pytest.fixture
def thread_count() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def everything(x: Tensor) -> list[Tensor]:
    torch.manual_seed(0)
    c, n = x.shape[1], x.shape[0]
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    p = [torch.randn(c, dtype=wide) for _ in range(3)]
    grad = torch.randn(x.shape).to(x.dtype)
    weights = torch.randn(16, c, dtype=wide), torch.randn(c, 16, dtype=wide)
    gen = Generator(*weights, norm="batch" if n > 1 else "none")
    y, saved = cpu_meta.meta_acon_c_forward(x, p[0], p[1], gen)
    results = [cpu.acon_c_forward(x, *p), *cpu.acon_c_backward(grad, x, *p), y, saved]
    results += cpu.smooth_maximum_backward(grad, x, grad, p[2])
    results += cpu_meta.meta_acon_c_backward(grad, x, p[0], p[1], gen, saved)
    return [one for one in results if one is not None]


@pytest.mark.parametrize(
    "shape",
    [
        (2, 64, 80, 80),
        (8, 64, 28, 28),
        (16, 96, 14, 14),
        (6, 1100, 14, 14),
        (8, 256, 7, 7),
        (1, 1, 300, 300),
        (512, 640),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_any_number_of_threads_gives_the_same_bits(
    thread_count: None, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    for layout in (torch.contiguous_format, torch.channels_last):
        if layout is torch.channels_last and len(shape) != 4:
            continue
        x = torch.randn(shape).to(dtype).to(memory_format=layout)
        torch.set_num_threads(1)
        one = everything(x)
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            assert all(torch.equal(a, b) for a, b in zip(one, everything(x), strict=True))
