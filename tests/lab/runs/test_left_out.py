"""Images that a run goes on without: each is told, and counted in its row."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killed import KillAt, Killed
from two_processes import two

from aconite.lab.runs import ClassificationSettings, RunProgress, train

Make = Callable[..., ClassificationSettings]


@pytest.fixture
def data(pictures: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(pictures, tmp_path / "data")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="skipped")
        yield tmp_path / "data"


def break_on_the_way(path: Path) -> bytes:
    """Damages a file such that only reading it shows; what it held."""
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))  # its size is part of what the run's folder knows of the data
    return content


def test_what_is_left_out_is_told_and_counted(quick: Make, data: Path, tmp_path: Path) -> None:
    (data / "train" / "dark" / "3.png").write_bytes(b"no image")
    notes: list[str] = []

    class Watch(RunProgress):
        def note(self, text: str) -> None:
            notes.append(text)

    settings = quick(data=str(data), problems="skip", full_check=True, epochs=1)
    run = train(settings, tmp_path / "run", Watch())
    assert run.row["left_out"] == 1
    assert len(notes) == 1
    assert "left out" in notes[0]
    assert "3.png" in notes[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_breaks_on_the_way_is_counted_once(quick: Make, data: Path, tmp_path: Path, workers: int) -> None:
    for name in ("train/dark/3.png", "train/bright/0.png", "test/dark/1.png"):
        break_on_the_way(data / name)
    row = train(quick(data=str(data), problems="skip", workers=workers), tmp_path / "run").row
    assert row["left_out"] == 3


def test_what_was_left_out_before_a_run_goes_on_is_counted(quick: Make, data: Path, tmp_path: Path) -> None:
    settings = quick(data=str(data), problems="skip", batch_size=13)  # no image is left over in an epoch
    broken = {data / name: break_on_the_way(data / name) for name in ("train/dark/3.png", "test/bright/1.png")}
    with pytest.raises(Killed):
        train(settings, tmp_path / "run", KillAt(1))
    for path, content in broken.items():
        path.write_bytes(content)
    break_on_the_way(data / "train/dark/5.png")
    assert train(settings, tmp_path / "run").row["left_out"] == 3


def test_two_processes_count_together(quick: Make, data: Path, tmp_path: Path) -> None:
    for name in ("train/dark/3.png", "test/bright/1.png", "test/bright/2.png"):  # each process tests one of the two
        break_on_the_way(data / name)
    settings = quick(data=str(data), problems="skip", epochs=4)

    def work(rank: int) -> int:
        train(settings, tmp_path / "run")
        return 0

    assert two(work) == [0, 0]
    assert json.loads((tmp_path / "run" / "rows.jsonl").read_text())["left_out"] == 3
