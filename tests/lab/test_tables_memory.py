"""The peak of a run's memory, against sums done by hand."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aconite.lab.tables.memory import peak_bytes


def floats(*counts: int) -> int:
    return 4 * sum(counts)


def test_what_is_held_at_once_counts_and_what_comes_after_does_not() -> None:
    def run() -> torch.Tensor:
        first = torch.zeros(1000) + torch.zeros(1000)  # three at once
        second = torch.zeros(500)
        del first
        return second + torch.zeros(700)[:500]

    assert peak_bytes(run) == floats(1000, 1000, 1000)


def test_views_and_work_in_place_take_nothing() -> None:
    assert peak_bytes(lambda: torch.zeros(6, 7).t().relu_()[1:].neg_()) == floats(42)
    assert peak_bytes(lambda: None) == 0


def test_what_operations_allocate_inside_counts() -> None:
    """The sum of exponentials has a hundred numbers to a row between its input and its result."""
    x = torch.randn(10, 100)
    assert peak_bytes(lambda: x.logsumexp(1)) >= floats(10 * 100, 10)


def test_what_was_there_before_counts_neither_when_it_stays_nor_when_it_goes() -> None:
    held = [torch.zeros(10_000)]

    def run() -> None:
        held.clear()
        torch.zeros(100)

    assert peak_bytes(run) == floats(100)


def test_what_an_earlier_run_made_is_not_taken_away() -> None:
    """The profiler remembers it, so its release, here by the cycle collector, would be subtracted."""

    def run() -> None:
        cycle = [torch.zeros(5000)]
        cycle.append(cycle)  # type: ignore[arg-type]

    gc.disable()
    try:
        assert [peak_bytes(run) for _ in range(3)] == 3 * [floats(5000)]
    finally:
        gc.enable()


def test_a_training_step_by_hand() -> None:
    """A linear layer without bias: weights, gradient, batch, output; at its highest while backward runs."""

    def run() -> None:
        layer, x = nn.Linear(300, 200, bias=False), torch.ones(10, 300)
        layer(x).sum().backward()

    weights, batch, output = 300 * 200, 10 * 300, 10 * 200
    low = floats(2 * weights, batch)  # the gradient has been made, the batch is still there
    assert low <= peak_bytes(run) <= low + floats(2 * output) + 64


def test_the_peak_of_a_step_is_above_what_it_saves() -> None:
    from aconite.bench import saved_bytes
    from aconite.models import create

    network, x = create("resnet8", activation="acon-c", stem="small"), torch.randn(2, 3, 32, 32)

    def loss() -> torch.Tensor:
        return F.cross_entropy(network(x), torch.tensor([0, 1]))

    network.zero_grad()
    saved = saved_bytes(loss, (*network.parameters(), *network.buffers(), x))
    peak = peak_bytes(lambda: loss().backward())
    gradients = sum(parameter.numel() * 4 for parameter in network.parameters())
    assert saved < peak < 2 * saved + gradients


def test_the_profiler_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    peak_bytes(lambda: torch.zeros(10))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_rise_above_what_is_there() -> None:
    held = torch.zeros(1 << 20, device="cuda")
    peak = peak_bytes(lambda: torch.zeros(1 << 18, device="cuda") + 1, "cuda")
    assert held.numel() == 1 << 20
    assert peak == floats(1 << 18, 1 << 18)
