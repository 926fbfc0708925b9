from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from aconite.lab.progress import LiveProgress, PlainProgress, Progress, progress_for
from aconite.lab.tasks import EpochResult

RESULT = EpochResult(train_loss=0.75, train_error=12.5, test_error=10.25, seconds=1.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("aconite.lab.progress.time.monotonic", clock)
    return clock


def run(progress: Progress, clock: Clock) -> None:
    with progress:
        progress.begin(cells=4, finished=1, epochs=3, images=100)
        progress.cell("acon-c-seed0")
        for number in range(3):
            progress.epoch(number, RESULT if number else None)
            clock.now += 8
            progress.step(100, torch.tensor(0.5))
        progress.note("a word")
        progress.finish(10.25)
        progress.stage("measuring")


def test_plain_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(PlainProgress(every=10.0), clock)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "[2/4] acon-c-seed0: epoch 2/3, loss 0.750, error 12.50 % train, 10.25 % test, 12 images/s, 8 s left",
        "a word",
        "[2/4] acon-c-seed0: test error 10.25 %, 24 s",
        "measuring",
    ]
    assert err == ""


def test_quiet_says_only_what_must_be_known(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(Progress(), clock)
    assert capsys.readouterr() == ("", "a word\n")


def test_live_display(clock: Clock) -> None:
    screen = io.StringIO()
    run(LiveProgress(Console(file=screen, force_terminal=True, width=140, legacy_windows=False)), clock)
    shown = screen.getvalue()
    assert "[2/4] acon-c-seed0: test error 10.25 %" in shown
    assert "a word" in shown


def test_live_figures(clock: Clock) -> None:
    progress = LiveProgress(Console(file=io.StringIO(), force_terminal=True, width=140))
    progress.begin(cells=4, finished=1, epochs=3, images=100)
    progress.cell("relu-seed0")
    progress.epoch(2, RESULT)
    clock.now += 10
    progress.step(50, torch.tensor(0.5))
    every, one = progress.bars.tasks
    progress.close()
    assert (every.completed, every.total) == (1 * 3 + 2, 12)
    assert (one.completed, one.total) == (2, 3)
    assert one.fields["figures"] == "loss 0.500, error 12.50 % train, 10.25 % test, 5 images/s"


def test_which_display(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(progress_for(quiet=True)) is Progress
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(progress_for(quiet=False), PlainProgress)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(progress_for(quiet=False), LiveProgress)
