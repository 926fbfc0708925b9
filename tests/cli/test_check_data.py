from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from aconite.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "val"):
        for name, value in (("images", 9), ("masks", 1)):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (8, 8), value).save(tmp_path / part / name / "a.png")
    return tmp_path


def test_a_clean_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder}: segmentation, image and mask folders; 2 classes: 0, 1\n  train: 1 images\n")
    assert out.endswith("\nno problems\n")


def test_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "val" / "masks" / "a.png").unlink()
    assert main(["check-data", str(folder), "--full", "--workers", "2"]) == 1
    out = capsys.readouterr().out
    assert "\nimage without annotation\n  val/images/a.png: there is no masks/a.png\n" in out
    assert out.endswith("\n1 problem: 1× image without annotation\n")


def test_json_and_the_ignored_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(folder), "--task", "segmentation", "--ignore-index", "1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["classes"], found["counts"]) == ("segmentation", [], {"empty-annotation": 2})
    assert found["problems"][0] == {
        "kind": "empty-annotation", "file": "train/masks/a.png", "reason": "all of its pixels are ignored",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "no data at nowhere"),
        (["."], "not a data set: expected"),
        (["{}", "--task", "detection"], "not a data set for detection"),
        (["{}", "--ignore-index", "300"], "from 0 to 255"),
    ],
)
def test_what_is_no_data_set(
    folder: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["check-data", *(argument.format(folder) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
