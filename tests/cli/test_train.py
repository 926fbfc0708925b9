"""`aconite train` as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """8 images for training and 4 for testing, 12×12, of two classes."""
    folder = tmp_path_factory.mktemp("data") / "my pictures"
    draws = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("bright", "dark"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 160, (12, 12, 3)) + 95 * (name == "bright")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{number}.png")
    return str(folder)


@pytest.fixture
def train(run: Run, pictures: str) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        return run("train", "classification", "--data", pictures, "--model", "resnet8", "--image-size", "12",
                   "--batch-size", "4", "--accelerator", "cpu", *words)  # fmt: skip

    return call


def test_a_run_and_the_same_again(train: Run, tmp_path: Path) -> None:
    words = ("--epochs", "2", "--lr", "0.01", "--activation", "meta-acon", "--out", str(tmp_path / "run"))
    status, out, err = train(*words)
    assert (status, err) == (0, "")
    first, second, result, where = out.splitlines()
    number = r"\d+\.\d{3}"
    for step, line in ((2, first), (4, second)):
        assert re.fullmatch(
            rf"step {step}/4, epoch {step // 2}: train loss {number}, loss {number}, error {number}, \d+ s left", line
        )
    assert re.fullmatch(rf"resnet8 with meta-acon: error {number}, loss {number}, train loss {number}", result)
    assert where == f"run:  {tmp_path / 'run'}"
    assert train(*words) == (0, f"{result}\n{where}\n", "")
    status, out, err = train(*words, "--lr", "0.02")
    assert (status, out) == (2, "")
    assert "other settings (lr: 0.01 there, 0.02 now)" in err
    assert err.count("\n") == 1


def test_settings_from_everywhere(train: Run, run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("lr = 0.03\nmomentum = 0.8\nloggers = []\n")
    words = ("--recipe", "small", "--config", str(tmp_path / "my.toml"), "--steps", "1", "--momentum", "0.7", "--fuse")
    assert train(*words, "--out", str(tmp_path / "run"))[0] == 0
    row = json.loads((tmp_path / "run" / "rows.jsonl").read_text())
    expected = {"lr": 0.03, "momentum": 0.7, "steps": 1, "epochs": None, "weight_decay": 5e-4, "fuse": True}
    assert {name: row["settings"][name] for name in expected} == expected
    again = ("--config", str(tmp_path / "run" / "settings.toml"), "--out", str(tmp_path / "again"))
    assert run("train", "classification", *again)[0] == 0
    assert json.loads((tmp_path / "again" / "rows.jsonl").read_text())["settings"] == row["settings"]


@pytest.mark.parametrize("kind", ["quiet", "bar", "plain"])
def test_progress(train: Run, tmp_path: Path, kind: str) -> None:
    status, out, err = train("--epochs", "2", "--progress", kind, "--out", str(tmp_path / "run"))
    assert (status, err) == (0, "")
    epochs = [line for line in out.splitlines() if "epoch" in line]
    assert len(epochs) == (0 if kind == "quiet" else 2)
    assert all("train loss" in line and "error" in line for line in epochs)


def test_the_default_folder(train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("--epochs", "1", "--activation", "x * sigmoid(beta * x)", "--seed", "3")[0] == 0
    assert (tmp_path / "runs" / "my_pictures-resnet8-x_sigmoid_beta_x_-seed3" / "weights.pt").is_file()


def test_a_training_that_diverges_says_so(train: Run, tmp_path: Path) -> None:
    status, out, err = train("--epochs", "5", "--lr", "1e30", "--out", str(tmp_path / "run"))
    assert status == 0
    assert "the loss is no longer finite, so the training has ended early: try a lower --lr" in err
    assert "nan" not in out


@pytest.mark.parametrize(("end", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_how_a_stop_ends(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, status: int
) -> None:
    def stopped(*_: Any) -> None:
        raise end

    monkeypatch.setattr("aconite.lab.runs.train", stopped)
    out = tmp_path / "run"
    assert train("--epochs", "1", "--out", str(out)) == (
        status, "", f"\nstopped; the same command goes on from the last checkpoint in {out}\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train",), "the following arguments are required: TASK"),
        (("train", "sorting"), "invalid choice: 'sorting'"),
        (("train", "classification"), "data is missing: name the folder of a data set with --data"),
        (("train", "classification", "--data", "x"), "give one, such as --epochs 30"),
        (("train", "classification", "--data", "x", "--epochs", "two"), "epochs is 'two': it must be a whole number"),
        (("train", "classification", "--data", "x", "--epochs"), "argument --epochs: expected one argument"),
        (("train", "classification", "photos", "--epochs", "2"), "'photos' is a word too many (see aconite train"),
        (("train", "classification", "--epocs", "2"), "unknown option '--epocs': did you mean '--epochs'?"),
        (("train", "classification", "--recipe", "big"), "unknown recipe 'big'"),
        (("train", "classification", "--data", "x", "--epochs", "1"), "no data at x: name the folder of a data set"),
        (("train", "classification", "--data", "x", "--epochs", "1", "--progress", "loud"), "choose one of auto, bar"),
        (("train", "segmentation", "--data", "x", "--epochs", "1", "--crop", "64"), "crop is [64]: it must be 2 whole"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run: Run, words: tuple[str, ...], told: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_help_lists_every_option(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from aconite.lab.runs import KINDS, options_of, recipes

    for task, kind in KINDS.items():
        with pytest.raises(SystemExit) as ended:
            run("train", task, "--help")
        assert ended.value.code == 0
        told = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # where argparse breaks a line
        for one in options_of(kind.settings):
            assert f"--{one.name.replace('_', '-')}" in told
            assert one.told in told
        assert all(name in told for name in recipes(task))


def test_info_and_help_need_no_lightning() -> None:
    program = (
        "import sys; from aconite.cli import main; main(['info'])\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "assert 'lightning' not in sys.modules, 'Lightning was imported'"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
