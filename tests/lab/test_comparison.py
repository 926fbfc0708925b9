from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aconite.errors import CheckpointError, SettingsError
from aconite.lab import CompareSettings, Progress, compare

Quick, Make = Callable[..., CompareSettings], Callable[..., Path]


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def without_times(out: Path) -> list[dict[str, Any]]:
    return [{**row, "timing": None} for row in rows(out)]


@pytest.fixture
def pictures(image_folder: Make) -> str:
    return str(image_folder())


@pytest.fixture
def finished(quick: Quick, pictures: str, tmp_path: Path) -> tuple[CompareSettings, Path]:
    settings = quick(data=pictures, activations=("relu", "meta-acon", "acon-c"))
    compare(settings, tmp_path / "run")
    return settings, tmp_path / "run"


def untrainable(*arguments: Any) -> None:
    raise AssertionError("trained again")


def test_the_whole_job(finished: tuple[CompareSettings, Path]) -> None:
    settings, out = finished
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "cells", "checkpoints", "costs.json", "report.html", "rows.jsonl", "run.json",
    ]  # fmt: skip
    table = rows(out)
    assert [(row["kind"], row["activation"], row.get("seed")) for row in table] == [
        *(("cell", name, seed) for seed in (0, 1) for name in settings.activations),
        *(("cost", name, None) for name in settings.activations),
    ]
    for row in table:
        assert row["data"] == "pictures"
        assert row["settings"]["content"].startswith("sha256:")
        assert row["provenance"].keys() >= {"aconite", "commit", "torch", "python", "device", "threads", "native"}
    report = (out / "report.html").read_text()
    for part in ("relu", "meta-acon", "95 % interval", "Holm", "image 6 (dog)", "<svg"):
        assert part in report
    relu, meta, acon = table[6:]
    assert relu["parameters"] < acon["parameters"] < meta["parameters"]
    assert relu["timing"]["step_ratio"] == [1.0, 1.0, 1.0]


def test_the_same_command_gives_the_same_rows(finished: tuple[CompareSettings, Path], tmp_path: Path) -> None:
    settings, out = finished
    compare(settings, tmp_path / "again")
    assert without_times(tmp_path / "again") == without_times(out)


def test_nothing_tells_whose_machine_it_was(finished: tuple[CompareSettings, Path], tmp_path: Path) -> None:
    for path in finished[1].rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(tmp_path).encode() not in content, path
            assert str(Path.home()).encode() + b"/" not in content, path
            if path.suffix in (".json", ".jsonl"):  # a short name occurs in binary files and markup by chance
                assert not re.search(rf"\b{re.escape(platform.node())}\b", content.decode()), path


def test_what_is_finished_is_not_trained_again(
    finished: tuple[CompareSettings, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out = finished
    before = rows(out)
    for name in ("rows.jsonl", "report.html"):
        (out / name).unlink()
    monkeypatch.setattr("aconite.lab.comparison.train", untrainable)
    comparison = compare(settings, out)
    assert rows(out) == before == comparison.rows
    assert comparison.report.exists()


def test_a_missing_cell_is_trained_alone_and_a_damaged_one_says_so(finished: tuple[CompareSettings, Path]) -> None:
    settings, out = finished
    before = without_times(out)
    (out / "cells" / "relu-seed1.json").unlink()
    shutil.rmtree(out / "checkpoints" / "relu-seed1")
    damaged = out / "cells" / "acon-c-seed0.json"
    damaged.write_text(damaged.read_text()[:100])
    progress = Notes()
    compare(settings, out, progress)
    assert without_times(out) == before
    assert len(progress.notes) == 1
    assert "acon-c-seed0.json is damaged" in progress.notes[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lr": 0.2, "epochs": 3}, "epochs: 2 there, 3 now; lr: 0.1 there, 0.2 now"),
        ({"activations": ("relu", "acon-c")}, "activations: relu,meta-acon,acon-c there, relu,acon-c now"),
    ],
)
def test_other_settings_in_the_same_folder(
    finished: tuple[CompareSettings, Path], quick: Quick, changes: dict[str, Any], told: str
) -> None:
    settings, out = finished
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    changed = quick(**({"data": settings.data, "activations": settings.activations} | changes))
    with pytest.raises(CheckpointError, match=r"other settings") as raised:
        compare(changed, out)
    assert told in str(raised.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_other_images_in_the_same_folder(finished: tuple[CompareSettings, Path]) -> None:
    settings, out = finished
    shutil.copy(Path(settings.data) / "train/cat/0.png", Path(settings.data) / "train/cat/1.png")
    with pytest.raises(CheckpointError, match="content: sha256:"):
        compare(settings, out)


def test_a_damaged_run_file(finished: tuple[CompareSettings, Path]) -> None:
    settings, out = finished
    (out / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read .*run\.json"):
        compare(settings, out)


def test_no_place_to_write(quick: Quick, pictures: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot write to .*file/run: Not a directory; choose another folder"):
        compare(quick(data=pictures), tmp_path / "file" / "run")


def test_bad_data_leaves_no_folder(quick: Quick, pictures: str, tmp_path: Path) -> None:
    (Path(pictures) / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"0\.png"):
        compare(quick(data=pictures), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_seed_has_no_interval(quick: Quick, pictures: str, tmp_path: Path) -> None:
    comparison = compare(quick(data=pictures, seeds=1), tmp_path / "run")
    relu, acon = comparison.lines
    assert relu.difference is None
    assert acon.difference is not None
    assert (acon.deviation, acon.difference.low, acon.beyond_noise) == (None, None, None)
    assert "One seed" in comparison.report.read_text()


def test_diverged_cells_are_told_and_not_fatal(quick: Quick, pictures: str, tmp_path: Path) -> None:
    comparison = compare(quick(data=pictures, lr=1e30, epochs=3), tmp_path / "run")
    assert [line.diverged for line in comparison.lines] == [2, 2]
    assert [line.mean for line in comparison.lines] == [50.0, 50.0]
    assert "2 of 2 diverged" in comparison.report.read_text()
    assert "NaN" not in (tmp_path / "run" / "rows.jsonl").read_text()


def test_a_missing_package_names_the_extra() -> None:
    import subprocess

    code = (
        "import sys; sys.modules['lightning'] = None\n"
        "from aconite.errors import MissingExtraError\n"
        "try: import aconite.lab\n"
        "except MissingExtraError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "this needs lightning, which is not installed: pip install 'aconite[lab]'\n"
