"""What happens to two processes with gloo where one dies, or neither may train."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from two_processes import commands, two

from aconite.errors import DataError
from aconite.lab.locks import alone
from aconite.lab.runs import ClassificationSettings, RunProgress, train
from aconite.lab.runs.kinds.classification import ClassificationExperiment

Make = Callable[..., ClassificationSettings]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_dies_ends_the_other(quick: Make, tmp_path: Path, rank: int) -> None:
    class Die(RunProgress):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3 and trainer.global_rank == rank:
                os.kill(os.getpid(), signal.SIGKILL)

    def work(me: int) -> int:
        train(quick(), tmp_path / "run", Die())
        return 0

    statuses = two(work)
    assert statuses[rank] == -signal.SIGKILL
    assert statuses[1 - rank] not in (None, 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("--batch-size", "5"), "batch_size 5 cannot be divided into 2 equal batches (2 devices, accumulate 1)"),
        (("--devices", "3"), "but 2 processes on each of 1 machines have been started"),
        (("--sync-batchnorm",), "sync_batchnorm is for GPUs"),
        (("--data", "nowhere"), "no data at nowhere"),
    ],
)
def test_a_mistake_ends_both_before_there_is_a_folder(
    pictures: Path, tmp_path: Path, changes: tuple[str, ...], told: str
) -> None:
    statuses, errors = commands(pictures, tmp_path, *changes)
    assert statuses == [2, 2]
    assert not (tmp_path / "run").exists()
    for (line,) in errors:
        assert told in line


@pytest.mark.parametrize(
    "told", ["is in training by another process", "holds a run with other settings (seed: 9 there"]
)
def test_a_folder_that_is_anothers_ends_both_at_once(pictures: Path, tmp_path: Path, told: str) -> None:
    """Not the first alone, for which the second would wait."""
    with alone(tmp_path / "run" / ".training.lock"):
        if "seed" in told:
            (tmp_path / "run" / "run.json").write_text('{"seed": 9}')
        statuses, errors = commands(pictures, tmp_path)
    assert statuses == [2, 2]
    for (line,) in errors:
        assert told in line
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_finished_run_is_told_to_both(quick: Make, tmp_path: Path) -> None:
    settings = quick(epochs=1)
    row = json.loads(json.dumps(train(settings, tmp_path).row))
    written = (tmp_path / "rows.jsonl").stat().st_mtime_ns

    def work(rank: int) -> int:
        return int(train(settings, tmp_path).row != row)

    assert two(work) == [0, 0]
    assert (tmp_path / "rows.jsonl").stat().st_mtime_ns == written


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_is_told_once(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    learnt = ClassificationExperiment.loss

    def loss(self: ClassificationExperiment, batch: Any) -> Any:
        if self.global_step == 3 and self.global_rank == rank:
            raise DataError("3.png: it is broken")
        return learnt(self, batch)

    monkeypatch.setattr(ClassificationExperiment, "loss", loss)
    statuses, errors = commands(pictures, tmp_path)
    assert statuses == [2, 2]
    assert errors[rank] == ["aconite: error: 3.png: it is broken"]
    (line,) = errors[1 - rank]
    assert line.startswith("aconite: error: another process of this training is gone (")
