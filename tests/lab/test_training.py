from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aconite.lab import CompareSettings, Progress
from aconite.lab.data import ImageData
from aconite.lab.training import Cell, new_task, train

Quick = Callable[..., CompareSettings]
CELL = Cell(seed=1, activation="meta-acon")


class Stop(Progress):
    """Does something at one step."""

    def __init__(self, at: int, do: Callable[[], Any]) -> None:
        self.left, self.do = at, do
        self.notes: list[str] = []

    def step(self, images: int, loss: Tensor) -> None:
        self.left -= 1
        if self.left == 0:
            self.do()

    def note(self, text: str) -> None:
        self.notes.append(text)


class Killed(Exception):
    pass


def fail() -> None:
    raise Killed


def state(task: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def assert_same(a: Any, b: Any) -> None:
    without_times = [[{**epoch, "seconds": 0} for epoch in task.history] for task in (a, b)]
    assert without_times[0] == without_times[1]
    mine, theirs = state(a), state(b)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.fixture
def with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that draw from torch's global random numbers while they train."""
    from aconite.models import create

    monkeypatch.setattr(
        "aconite.lab.training.create", lambda *args, **options: nn.Sequential(nn.Dropout(0.2), create(*args, **options))
    )


@pytest.mark.usefixtures("with_dropout")
@pytest.mark.parametrize("at", [1, 6, 7, 12, 13, 17])
def test_stopped_anywhere_it_comes_to_the_same_bits(quick: Quick, tiny: ImageData, tmp_path: Path, at: int) -> None:
    settings = quick(epochs=3)  # of 6 steps each
    whole = train(CELL, settings, tiny, tmp_path / "whole", Progress())
    with pytest.raises(Killed):
        train(CELL, settings, tiny, tmp_path / "cut", Stop(at, fail))
    torch.manual_seed(12345)  # another process has other random numbers
    resumed = train(CELL, settings, tiny, tmp_path / "cut", Stop(-1, fail))
    assert len(resumed.history) == 3
    assert_same(resumed, whole)


@pytest.mark.usefixtures("with_dropout")
def test_a_damaged_checkpoint_goes_back_one_and_says_so(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    settings = quick(epochs=3)
    whole = train(CELL, settings, tiny, tmp_path, Progress())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0002.ckpt", "epoch-0003.ckpt"]
    last = tmp_path / "epoch-0003.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    watch = Stop(-1, fail)
    assert_same(train(CELL, settings, tiny, tmp_path, watch), whole)
    assert len(watch.notes) == 1
    assert "epoch-0003.ckpt is damaged" in watch.notes[0]


def test_finished_training_is_not_repeated(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    first = train(CELL, quick(), tiny, tmp_path, Progress())
    assert_same(train(CELL, quick(), tiny, tmp_path, Stop(1, fail)), first)


def test_it_learns(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    task = train(CELL, quick(epochs=8, init="near-swish"), tiny, tmp_path, Progress())
    assert task.history[-1]["train_loss"] < task.history[0]["train_loss"]
    assert task.history[-1]["test_error"] <= 35


def test_the_error_is_that_of_the_network_as_it_ends(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    task = train(CELL, quick(), tiny, tmp_path, Progress()).eval()
    with torch.no_grad():
        wrong = task(tiny.test_images).argmax(1) != tiny.test_labels
    assert task.history[-1]["test_error"] == pytest.approx(100 * wrong.double().mean().item())


@pytest.mark.parametrize(("schedule", "quarter"), [("cosine", 0.853553), ("linear", 0.75)])
def test_learning_rate_falls_to_zero(
    quick: Quick, tiny: ImageData, tmp_path: Path, schedule: str, quarter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, closure: Any = None) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    train(CELL, quick(schedule=schedule, lr=0.2), tiny, tmp_path, Progress())
    assert len(rates) == 12
    assert rates[0] == 0.2
    assert rates[3] == pytest.approx(0.2 * quarter, rel=1e-5)
    assert 0 < rates[-1] < 0.2 / 10
    assert rates == sorted(rates, reverse=True)


def test_equal_seeds_share_every_weight_outside_the_activations(quick: Quick, tiny: ImageData) -> None:
    relu, acon, other = (
        new_task(Cell(seed, name), quick(), tiny).network.state_dict()
        for seed, name in ((0, "relu"), (0, "acon-c"), (1, "relu"))
    )
    assert relu.keys() < acon.keys()
    assert all(torch.equal(value, acon[name]) for name, value in relu.items())
    assert any(not torch.equal(value, other[name]) for name, value in relu.items())


def test_a_loss_that_is_not_finite_ends_the_training(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    task = train(CELL, quick(epochs=9, lr=1e30), tiny, tmp_path, Progress())
    assert len(task.history) < 9


def test_ctrl_c_is_a_keyboard_interrupt(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(CELL, quick(), tiny, tmp_path, Stop(2, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is handler


def test_sigterm_ends_with_its_own_status(quick: Quick, tiny: ImageData, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        train(CELL, quick(), tiny, tmp_path, Stop(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert raised.value.code == 143


def test_lightning_is_silent(
    quick: Quick, tiny: ImageData, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    train(CELL, quick(), tiny, tmp_path, Progress())
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
