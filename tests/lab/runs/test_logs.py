"""What a run writes for people: curves and lines."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from killed import KillAt, Killed
from torch import nn

from aconite.errors import MissingExtraError, SettingsError
from aconite.lab.runs import ClassificationSettings, run_progress, train

Make = Callable[..., ClassificationSettings]


def curves(out: Path, start: int = 0) -> list[dict[str, str]]:
    with (out / "csv" / f"start-{start}" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_curves(quick: Make, tmp_path: Path) -> None:
    settings = quick(loggers=("csv", "tensorboard"), log_activations=6)
    run = train(settings, tmp_path)
    rows = curves(run.folder)
    epoch_losses = [float(row["train/epoch_loss"]) for row in rows if row["train/epoch_loss"]]
    assert epoch_losses == pytest.approx(run.row["history"]["train_loss"], rel=1e-6)
    errors = [float(row["test/error"]) for row in rows if row["test/error"]]
    assert errors == run.row["history"]["error"]
    assert [int(row["step"]) for row in rows if row["train/loss"]] == [9, 17]
    assert all(float(row["train/rate"]) <= 0.1 for row in rows if row["train/rate"])
    name = next(name for name in rows[0] if name.endswith("beta_mean"))
    assert [int(row["step"]) for row in rows if row[name]] == [0, 6, 12]
    assert list((run.folder / "tensorboard").glob("events*"))


def test_each_start_has_its_own_curves(quick: Make, tmp_path: Path) -> None:
    settings = quick(loggers=("csv",))
    with pytest.raises(Killed):
        train(settings, tmp_path, KillAt(2))
    train(settings, tmp_path)
    steps = [[int(row["step"]) for row in curves(tmp_path, start) if row["test/error"]] for start in (0, 1)]
    assert steps == [[5, 11], [17]]


def test_tensorboard_is_not_here(quick: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("no tensorboard")

    monkeypatch.setattr("aconite.lab.runs.engine.TensorBoardLogger", missing)
    with pytest.raises(MissingExtraError, match="this needs tensorboard"):
        train(quick(loggers=("tensorboard",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_log_activations_of_a_network_without_any(quick: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "aconite.lab.runs.kinds.classification.classifier",
        lambda *_, **__: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
    )
    with pytest.raises(SettingsError, match="no activation module whose state could be logged"):
        train(quick(loggers=("csv",), log_activations=1), tmp_path)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lines_of_steps(
    quick: Make, tmp_path: Path, accumulate: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aconite.lab.runs.progress.PlainProgress.every", -1.0)  # each backward pass, not each minute
    run = train(quick(batch_size=26, epochs=1, accumulate=accumulate), tmp_path, run_progress("plain"))
    *steps, epoch = capsys.readouterr().out.splitlines()
    pattern = r"step (\d)/1, epoch 1: loss (\d\.\d{4}), \d+\.\d images/s, \d+ s left"
    found = [re.fullmatch(pattern, line) for line in steps]
    assert all(found)
    assert [match[1] for match in found if match] == ["1"] if accumulate == 1 else ["0", "1"]
    losses = [float(match[2]) for match in found if match]
    assert sum(losses) / accumulate == pytest.approx(run.row["train_loss"], abs=1e-4)
    assert re.fullmatch(r"step 1/1, epoch 1: train loss \d\.\d{3}, loss \d.*, error \d+\.\d{3}, 0 s left", epoch)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_images_a_second(quick: Make, tmp_path: Path, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is a second further whenever somebody looks at it."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr("aconite.lab.runs.speed.time", clock)
    run = train(quick(accumulate=accumulate), tmp_path)
    assert run.row["timing"]["images_per_second"] == [24.0] * 3  # of 26 images six steps of four


def test_lightning_is_silent(
    quick: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    train(quick(loggers=("csv",)), tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
