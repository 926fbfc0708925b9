"""What a run comes to that is cut off, and what it says."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aconite.errors import AconiteError, CheckpointError, DataError
from aconite.lab.run_folder import claim
from aconite.lab.runs import ClassificationSettings, Run, RunProgress, evaluate, train
from aconite.models import create, stem_for

Make = Callable[..., ClassificationSettings]


class Stop(RunProgress):
    """Does something after a step, before its checkpoint is written."""

    def __init__(self, at: int, do: Callable[[], Any]) -> None:
        self.at, self.do = at, do
        self.notes: list[str] = []
        self.trained: list[int] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.trained.append(trainer.global_step)
        if trainer.global_step == self.at:
            self.do()

    def note(self, text: str) -> None:
        self.notes.append(text)


class Killed(Exception):
    pass


def fail() -> None:
    raise Killed


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "timing": None}


def assert_same(one: Run, other: Run) -> None:
    assert without_times(one.row) == without_times(other.row)
    mine, theirs = (torch.load(run.folder / "weights.pt", weights_only=True) for run in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def cut(settings: ClassificationSettings, out: Path, at: int) -> None:
    with pytest.raises(Killed):
        train(settings, out, Stop(at, fail))
    torch.manual_seed(12345)  # another process has other random numbers


CASES = [
    ({"checkpoint_every": 1}, (1, 8, 18)),
    ({"checkpoint_every": 4, "accumulate": 2, "clip_norm": 1.0}, (5, 6, 13)),
    ({"checkpoint_every": 2, "epochs": None, "steps": 15, "optimiser": "adamw", "warmup": 4}, (3, 15)),
    ({"epochs": None, "steps": 12}, (7, 12)),
    ({"validate_every": 2}, (12, 13)),
    ({"workers": 1, "checkpoint_every": 2}, (9,)),
]


@pytest.mark.usefixtures("with_dropout")
@pytest.mark.parametrize(("changes", "stops"), CASES, ids=str)
def test_stopped_anywhere_it_comes_to_the_same_bits(
    quick: Make, tmp_path: Path, changes: dict[str, Any], stops: tuple[int, ...]
) -> None:
    settings = quick(**changes)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    for at in stops:
        check_a_stop(settings, at, whole, tmp_path / f"cut{at}")


@pytest.mark.slow
@pytest.mark.usefixtures("with_dropout")
@pytest.mark.parametrize(("changes", "stops"), CASES, ids=str)
def test_stopped_everywhere(quick: Make, tmp_path: Path, changes: dict[str, Any], stops: tuple[int, ...]) -> None:
    settings = quick(**changes)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    for at in range(1, (settings.steps or 18) + 1):
        check_a_stop(settings, at, whole, tmp_path / f"cut{at}")


def check_a_stop(settings: ClassificationSettings, at: int, whole: Run, out: Path) -> None:
    cut(settings, out, at)
    resumed = Stop(-1, fail)
    assert_same(train(settings, out, resumed), whole)
    every, steps = settings.checkpoint_every or 6, settings.steps or 18
    kept = max((at - 1) // every * every, (at - 1) // 6 * 6)  # the last step before whose checkpoint was written
    assert sorted(set(resumed.trained) - {kept}) == list(range(kept + 1, steps + 1))
    assert len(list((out / "checkpoints").iterdir())) == 2
    assert resumed.notes == []


def test_a_stop_within_the_evaluation_or_before_the_row(quick: Make, tmp_path: Path, monkeypatch: Any) -> None:
    settings = quick(epochs=2)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    for where in ("aconite.lab.runs.kinds.classification.ClassificationExperiment.measured",
                  "aconite.lab.runs.run.write_finished"):  # fmt: skip
        out = tmp_path / where.rpartition(".")[2]
        with monkeypatch.context() as patch:
            patch.setattr(where, lambda *_: fail())
            cut(settings, out, -1)
        assert_same(train(settings, out, Stop(-1, fail)), whole)


@pytest.mark.usefixtures("with_dropout")
def test_damaged_checkpoints_fall_back_and_say_so(quick: Make, tmp_path: Path) -> None:
    settings = quick(checkpoint_every=2)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    cut(settings, tmp_path / "run", 15)
    newest = tmp_path / "run" / "checkpoints" / "epoch-0002-step-000014.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    watch = Stop(14, fail)
    with pytest.raises(Killed):
        train(settings, tmp_path / "run", watch)
    assert watch.trained == [13, 14]
    assert len(watch.notes) == 1
    assert "epoch-0002-step-000014.ckpt is damaged" in watch.notes[0]
    assert "trying epoch-0002.ckpt before it" in watch.notes[0]
    (tmp_path / "run" / "checkpoints" / "epoch-0002.ckpt").write_bytes(b"")
    watch = Stop(-1, fail)
    assert_same(train(settings, tmp_path / "run", watch), whole)
    assert watch.trained == list(range(1, 19))
    assert "training from its start" in watch.notes[-1]


def test_a_finished_run_is_not_trained_again(quick: Make, tmp_path: Path) -> None:
    first = train(quick(epochs=1), tmp_path, Stop(-1, fail))
    again = Stop(1, fail)
    assert_same(train(quick(epochs=1), tmp_path, again), first)
    assert again.trained == []


@pytest.mark.parametrize("stage", ["before", "after"])
def test_it_goes_on_without_the_weights_from_which_it_started(quick: Make, tmp_path: Path, stage: str) -> None:
    pretrained = tmp_path / "resnet.pt"
    torch.save(create("resnet8", activation="relu", num_classes=2, stem=stem_for(12)).state_dict(), pretrained)
    activation = {"before": "meta-acon", "after": "relu"}[stage]
    settings = quick(activation=activation, weights=str(pretrained), weights_stage=stage, lr=0.01)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    cut(settings, tmp_path / "cut", 9)
    pretrained.unlink()
    assert_same(train(settings, tmp_path / "cut", Stop(-1, fail)), whole)
    assert_same(train(settings, tmp_path / "whole", Stop(1, fail)), whole)
    figures = evaluate(tmp_path / "whole", device="cpu")
    assert figures["error"] == pytest.approx(whole.row["error"])


def test_a_run_that_diverged_has_ended(quick: Make, tmp_path: Path) -> None:
    settings = quick(epochs=9, lr=1e30)
    row = train(settings, tmp_path, Stop(-1, fail)).row
    assert row["diverged"]
    assert row["train_loss"] is None
    (tmp_path / "rows.jsonl").unlink()
    again = Stop(-1, fail)
    assert without_times(train(settings, tmp_path, again).row) == without_times(row)
    assert again.trained == []


def test_other_settings_in_the_same_folder(quick: Make, tmp_path: Path) -> None:
    cut(quick(), tmp_path, 7)
    with pytest.raises(CheckpointError, match=r"other settings \(lr: 0\.1 there, 0\.2 now\).*--out"):
        train(quick(lr=0.2), tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings \(task: classification there, detection now\): repeat"):
        claim(tmp_path, {"task": "detection", "side": 800})
    moved = Stop(8, fail)
    with pytest.raises(Killed):  # where and how it runs may change
        train(quick(workers=1, loggers=("csv",), checkpoint_every=1, full_check=True), tmp_path, moved)
    assert moved.trained == [7, 8]


def test_a_folder_of_another_version(quick: Make, tmp_path: Path) -> None:
    """It has no setting that came later, and knows one that has gone."""
    cut(quick(), tmp_path, 7)
    stored = json.loads((tmp_path / "run.json").read_text())
    del stored["decay"], stored["activation_lr"]  # whose default is no value, which is as good as not known
    (tmp_path / "run.json").write_text(json.dumps(stored | {"gone": 1}))
    with pytest.raises(CheckpointError, match=r"another version of Aconite began it.*--out") as raised:
        train(quick(), tmp_path)
    assert "(gone: 1 there, not known now; decay: not known there, weights now)" in str(raised.value)
    (tmp_path / "run.json").write_text(json.dumps(stored | {"decay": "weights"}))
    assert not train(quick(), tmp_path).row["diverged"]


def test_a_full_disk_loses_nothing(quick: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = quick(checkpoint_every=2)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    write, written = Path.write_bytes, 0

    def full(self: Path, content: Any) -> int:
        nonlocal written
        written += self.name.endswith(".ckpt.part")
        if written == 5:
            with self.open("wb") as file:
                file.write(bytes(content)[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: .*epoch-0001-step-000010\.ckpt"):
        train(settings, tmp_path / "run", Stop(-1, fail))
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "epoch-0001-step-000008.ckpt", "epoch-0001.ckpt",
    ]  # fmt: skip
    assert_same(train(settings, tmp_path / "run", Stop(-1, fail)), whole)


def test_sigterm_saves_before_it_ends(quick: Make, tmp_path: Path) -> None:
    whole = train(quick(), tmp_path / "whole", Stop(-1, fail))
    with pytest.raises(SystemExit) as raised:
        train(quick(), tmp_path / "run", Stop(8, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert raised.value.code == 143
    resumed = Stop(-1, fail)
    assert_same(train(quick(), tmp_path / "run", resumed), whole)
    assert resumed.trained == list(range(9, 19))


def test_ctrl_c_is_a_keyboard_interrupt(quick: Make, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(quick(), tmp_path, Stop(8, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_a_reading_process_meets_is_told_in_a_line(quick: Make, tmp_path: Path, pictures: Path) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data" / "train" / "dark" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError) as raised:
        train(quick(data=str(tmp_path / "data"), workers=1), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert "3.png: " in str(raised.value)


def test_a_lost_reading_process(quick: Make, tmp_path: Path) -> None:
    def kill() -> None:
        for child in multiprocessing.active_children():
            child.kill()

    def lose() -> None:
        with pytest.raises(AconiteError, match="a process that reads images is gone") as raised:
            train(quick(workers=1, checkpoint_every=2), tmp_path, Stop(3, kill))
        assert "\n" not in str(raised.value)

    # In a process of its own: torch tells of a lost one again at the end of any other, such as the next test's.
    process = multiprocessing.get_context("fork").Process(target=lose)
    process.start()
    process.join()
    assert process.exitcode == 0


def start(settings: ClassificationSettings, out: Path) -> multiprocessing.Process:
    """In a process of its own, forked: a new one takes seconds to import everything."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(settings, out))
    process.start()
    return process


def kill(process: multiprocessing.Process) -> None:
    process.kill()  # SIGKILL, which no handler sees
    process.join()


def test_sigkill(quick: Make, tmp_path: Path) -> None:
    settings = quick(epochs=4, checkpoint_every=1)
    process = start(settings, tmp_path / "run")
    while not (tmp_path / "run" / "checkpoints" / "epoch-0001-step-000008.ckpt").exists():
        assert process.is_alive()
        time.sleep(0.002)
    kill(process)
    assert not (tmp_path / "run" / "rows.jsonl").exists()
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    resumed = Stop(-1, fail)
    assert_same(train(settings, tmp_path / "run", resumed), whole)
    assert 1 <= len(resumed.trained) <= 17


@pytest.mark.slow
@pytest.mark.usefixtures("with_dropout")
def test_killed_at_random_until_it_is_done(quick: Make, tmp_path: Path) -> None:
    draws = random.Random(0)
    settings = quick(epochs=8, checkpoint_every=3, workers=1)
    whole = train(settings, tmp_path / "whole", Stop(-1, fail))
    kills = 0
    while True:
        process = start(settings, tmp_path / "run")
        process.join(draws.uniform(0.05, 0.3) * (1 + kills / 10))  # longer and longer, so that it comes to an end
        if process.exitcode is not None:
            break
        kill(process)
        kills += 1
    assert process.exitcode == 0
    assert kills > 2
    row = json.loads((tmp_path / "run" / "rows.jsonl").read_text())
    assert_same(Run(whole.settings, tmp_path / "run", row), whole)
