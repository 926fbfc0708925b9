from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from aconite.lab import CompareSettings
from aconite.lab.data import ImageData
from aconite.lab.rows import cell_row
from aconite.lab.tasks import EpochResult
from aconite.lab.training import Cell

Quick = Callable[..., CompareSettings]


def epoch(loss: float, test_error: float) -> EpochResult:
    return EpochResult(train_loss=loss, train_error=50.0, test_error=test_error, seconds=0.5)


def test_the_error_is_the_last_epoch_s_not_the_best(quick: Quick, tiny: ImageData) -> None:
    row = cell_row(Cell(0, "relu"), [epoch(1.0, 3.0), epoch(0.9, 7.0)], quick(), tiny)
    assert row["error"] == 7.0
    assert row["test_errors"] == [3.0, 7.0]
    assert row["diverged"] is False
    assert row["timing"] == {"epoch_seconds": [0.5, 0.5]}


@pytest.mark.parametrize("after", [[], [epoch(math.nan, 20.0)]])
def test_a_diverged_cell_counts_as_guessing(quick: Quick, tiny: ImageData, after: list[EpochResult]) -> None:
    history = [epoch(1.0, 3.0), epoch(math.inf, 5.0), *after]
    row = cell_row(Cell(0, "relu"), history, quick(epochs=4), tiny)
    guessing = pytest.approx(200 / 3)
    assert row["diverged"] is True
    assert row["error"] == guessing
    assert row["test_errors"] == [3.0, guessing, guessing, guessing]
    assert row["train_losses"] == [1.0, None, None, None]
