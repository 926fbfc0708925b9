"""A study from its settings to its report, on generated images."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aconite.cli import main
from aconite.errors import CheckpointError, SettingsError, UnknownNameError
from aconite.lab import CompareSettings, Progress, compare, run_study, study_settings

SMALL: dict[str, Any] = {
    "quick": True, "activations": ("relu", "meta-acon"), "inits": ("paper", "near-swish"), "with_se": ("relu",),
    "depths": ("resnet8", "resnet14"), "seeds": 2, "epochs": 1, "batch_size": 4, "device": "cpu",
}  # fmt: skip
PARTS = {
    "resnet8-paper": ("relu", "meta-acon", "swish"),
    "resnet8-near-swish": ("meta-acon",),
    "resnet8-se": ("relu",),
    "resnet14-paper": ("relu", "swish"),
}


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.names: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def cell(self, name: str) -> None:
        super().cell(name)
        self.names.append(self.name)


def lines(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return [{**row, "timing": None} for row in rows]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, draws = tmp_path_factory.mktemp("data") / "pictures", np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 100, (8, 8, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return str(folder)


@pytest.fixture(scope="module")
def once(pictures: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Notes]:
    progress, out = Notes(), tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aconite.lab.comparison._COST_SECONDS", 0.0)
        run_study(study_settings("cifar", data=pictures, **SMALL), out, progress)
    return out, progress


@pytest.fixture
def finished(once: tuple[Path, Notes], tmp_path: Path) -> tuple[Path, Notes]:
    """A finished study that a test may spoil."""
    shutil.copytree(once[0], tmp_path / "run", dirs_exist_ok=True)
    return tmp_path / "run", once[1]


def test_the_whole_study(finished: tuple[Path, Notes]) -> None:
    out, progress = finished
    own = [".lock", "report.html", "rows.jsonl", "run.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*PARTS, *own])
    assert progress.names == [
        f"{part} {name}-seed{seed}" for seed in (0, 1) for part, names in PARTS.items() for name in names
    ]
    assert progress.notes[0].startswith("14 trainings, about 0.0 hours (a training step: resnet8 ")
    cells = [row for row in lines(out) if row["kind"] == "cell"]
    assert len(cells) == 14
    assert {(row["model"], row["settings"]["init"]) for row in cells} == {
        ("resnet8", "paper"), ("resnet8", "near-swish"), ("resnet14", "paper"),
    }  # fmt: skip
    report = (out / "report.html").read_text()
    for word in ("What this study says", "Default init proposed", "<svg"):
        assert word in report


def test_a_part_is_the_comparison_that_compare_makes(
    finished: tuple[Path, Notes], pictures: str, tmp_path: Path
) -> None:
    settings = CompareSettings(
        data=pictures, model="resnet8", init="near-swish", activations=("meta-acon",), seeds=2, epochs=1, batch_size=4,
        device="cpu",
    )  # fmt: skip
    compare(settings, tmp_path / "alone")
    assert lines(tmp_path / "alone") == lines(finished[0] / "resnet8-near-swish")
    assert (finished[0] / "resnet8-near-swish" / "report.html").exists()


def test_what_is_finished_is_not_trained_again(
    finished: tuple[Path, Notes], pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = finished
    before = lines(out)
    (out / "resnet14-paper" / "cells" / "swish-seed1.json").unlink()
    progress = Notes()
    run_study(study_settings("cifar", data=pictures, **SMALL), out, progress)
    assert progress.names == ["resnet14-paper swish-seed1"]
    assert lines(out) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"inits": ("near-swish", "paper")}, "inits: paper,near-swish there, near-swish,paper now"),
        ({"epochs": 2}, "epochs: 1 there, 2 now"),
        ({"depths": ()}, "depths: resnet8,resnet14 there"),
    ],
)
def test_other_settings_in_the_same_folder(
    finished: tuple[Path, Notes], pictures: str, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(CheckpointError, match="other settings") as raised:
        run_study(study_settings("cifar", data=pictures, **(SMALL | change)), finished[0])
    assert told in str(raised.value)


PROGRAM = """
import sys, torch
from aconite.lab import comparison, run_study, study_settings
torch.set_num_threads(1)
comparison._COST_SECONDS = 0.0
run_study(study_settings("cifar", data=sys.argv[1], **{small!r}), sys.argv[2])
"""


@pytest.mark.slow
def test_killed_and_started_again(pictures: str, tmp_path: Path) -> None:
    small = SMALL | {"activations": ("acon-c",), "with_se": (), "depths": (), "seeds": 1, "epochs": 2}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(small=small), pictures, str(tmp_path / "killed")])
    first = tmp_path / "killed" / "resnet8-near-swish" / "checkpoints" / "acon-c-seed0" / "epoch-0001.ckpt"
    while not first.exists():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for out in ("killed", "whole"):
        run_study(study_settings("cifar", data=pictures, **small), tmp_path / out)
    torch.set_num_threads(before)
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def test_the_comparisons_of_a_study() -> None:
    full = study_settings("cifar", data="x")
    by_model: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for part in full.comparisons:
        by_model.setdefault(part.model, []).append((part.init, part.activations))
    everything = ("relu", "silu", "swish", "se-relu", "acon-c", "meta-acon")
    learnt = ("acon-c", "meta-acon")
    assert by_model["resnet20"] == [
        ("paper", everything), ("swish", learnt), ("near-swish", learnt), ("paper", ("relu",)),
    ]  # fmt: skip
    assert [part.activations for part in full.comparisons if part.se] == [("relu",)] * 2
    assert by_model["shufflenetv2_x0_5"] == by_model["resnet20"]
    assert [name for name in by_model if name.startswith("resnet")] == [
        "resnet20", "resnet8", "resnet14", "resnet32", "resnet44", "resnet56",
    ]  # fmt: skip
    assert by_model["resnet56"] == [("paper", ("relu", "swish"))]
    assert full.cells == 5 * (2 * 11 + 5 * 2)


@pytest.mark.parametrize(
    ("name", "changes", "error", "told"),
    [
        ("imagenet", {"data": "x"}, UnknownNameError, "imagenet"),
        ("cifar", {}, SettingsError, "a study needs data"),
        ("cifar", {"data": "x", "networks": ("resnet9",)}, UnknownNameError, "resnet8"),
        ("cifar", {"data": "x", "inits": ("swish", "swish")}, SettingsError, "inits holds 'swish' twice"),
        ("cifar", {"data": "x", "inits": ("other",)}, SettingsError, "choose one of paper, swish, near-swish"),
        ("cifar", {"data": "x", "networks": ()}, SettingsError, "networks is empty"),
        ("cifar", {"data": "x", "seeds": 0}, SettingsError, "seeds is 0"),
        ("cifar", {"data": "x", "depth_activations": ("relu",)}, SettingsError, "a difference needs two"),
    ],
)
def test_settings_that_are_refused(name: str, changes: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        study_settings(name, **changes)


def test_the_command(pictures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        *("compare", "--study", "cifar", "--quick", "--data", pictures, "--activations", "relu,acon-c", "--seeds", "1"),
        *(
            "--epochs",
            "1",
            "--batch-size",
            "4",
            "--inits",
            "swish",
            "--with-se",
            "",
            "--depths",
            "",
            "--device",
            "cpu",
            "--quiet",
        ),
        *("--out", str(tmp_path / "run")),
    ]
    assert main(command) == 0
    told = capsys.readouterr().out
    for words in ("Test error", "swish", "not shown", f"report: {tmp_path}/run/report.html"):
        assert words in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--quick",), "--quick belongs to a study: add --study cifar"),
        (("--networks", "resnet8"), "--networks belongs to a study"),
        (("--study", "cifar", "--model", "resnet8"), "--model is one comparison's: a study has --networks"),
        (("--study", "cifar", "--init", "swish"), "--init is one comparison's: a study has --inits"),
        (("--with-se", "relu"), "--with-se belongs to a study"),
        (("--study", "cifar"), "a study needs data"),
        (("--study", "cifra", "--data", "x"), "cifra"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *options]) == 2
    assert told in capsys.readouterr().err


def test_help_names_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert "--study NAME" in capsys.readouterr().out
