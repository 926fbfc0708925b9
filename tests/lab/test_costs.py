from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from aconite.lab.costs import measure_costs, multiply_adds, saved_for_backward
from aconite.lab.data import ImageData, training_batches
from aconite.lab.tasks import Classification

Make = Callable[..., ImageData]


def task_of(network: nn.Module, data: ImageData) -> Classification:
    return Classification(network, data, lr=0.1, weight_decay=0.0, label_smoothing=0.0, schedule="cosine")


def test_multiply_adds_of_layers_counted_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(8 * 16, 5)
    )
    by_hand = 6 * 6 * 8 * 27 + 4 * 4 * 8 * 9 + 8 * 16 * 5
    assert multiply_adds(network, torch.zeros(1, 3, 6, 6)) == by_hand
    assert network.training


def test_saved_for_backward_counts_each_storage_once(make_data: Make) -> None:
    """Linear keeps its input, two squares of one tensor keep that tensor once, parameters do not count."""

    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x + x.sin()

    data = make_data()
    batch = next(iter(training_batches(data, 4, 0)))
    plain = task_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 3)), data)
    squares = task_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Squares(), nn.Linear(16, 3)), data)
    inputs, hidden = 4 * 64 * 4, 4 * 16 * 4
    rest = saved_for_backward(plain, batch) - inputs - hidden
    assert 0 <= rest <= 4 * 3 * 4 * 2 + 4 * 8 + 8  # the loss: log-probabilities, labels, a scalar
    assert saved_for_backward(squares, batch) == inputs + 2 * hidden + rest


def test_costs_are_relative_to_the_baseline(make_data: Make) -> None:
    data = make_data()
    batch = next(iter(training_batches(data, 16, 0)))
    small = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    large = nn.Sequential(nn.Flatten(), nn.Linear(64, 2048), nn.Linear(2048, 2048), nn.Linear(2048, 3))
    costs = measure_costs({"large": task_of(large, data), "small": task_of(small, data)}, "small", batch, seconds=0)
    assert costs["small"].step_ratio == (1.0, 1.0, 1.0)
    assert all(ratio > 0 for ratio in costs["large"].step_ratio)
    assert costs["small"].parameters == 65 * 3
    assert costs["small"].multiply_adds == 64 * 3
    assert costs["large"].saved_bytes > costs["small"].saved_bytes


@pytest.mark.parametrize("name", ["acon-c", "meta-acon"])
def test_memory_of_the_paper_s_layers_is_seen(name: str, make_data: Make) -> None:
    from aconite.nn import activation

    data = make_data()
    batch = next(iter(training_batches(data, 4, 0)))
    linear = [nn.Conv2d(1, 8, 1), nn.Flatten(), nn.Linear(8 * 64, 3)]
    with_it = [linear[0], activation(name, 8), *linear[1:]]
    more = saved_for_backward(task_of(nn.Sequential(*with_it), data), batch)
    assert more >= saved_for_backward(task_of(nn.Sequential(*linear), data), batch) + 4 * 8 * 64 * 4
