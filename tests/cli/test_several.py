"""`aconite compare` with trainings by number, on a cluster, and of whole runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aconite.lab import Cluster

Run = Callable[..., tuple[int, str, str]]
QUICK = ("compare", "--activations", "relu,acon-c", "--epochs", "1", "--batch-size", "4", "--seeds", "2")
RUNS = (*QUICK, "--task", "classification", "--recipe", "small", "--accelerator", "cpu")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aconite.lab.comparison._COST_SECONDS", 0.0)
    draws = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 100, (32, 32, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / part / name / f"{number}.png")
    return "pictures"


@pytest.mark.parametrize(
    ("command", "folder"), [(QUICK, "pictures-resnet8"), (RUNS, "pictures-resnet8-classification")]
)
def test_cells_by_number_then_all(run: Run, pictures: str, command: tuple[str, ...], folder: str) -> None:
    listed = run(*command, "--data", pictures, "--list-cells")
    assert listed == (0, "  0  relu-seed0\n  1  acon-c-seed0\n  2  relu-seed1\n  3  acon-c-seed1\n", "")
    assert not Path("runs").exists()
    status, out, _ = run(*command, "--data", pictures, "--cells", "1,2-3")
    assert status == 0
    assert "relu-seed0" not in out
    assert "[3/3] acon-c-seed1: " in out
    assert not Path("runs", folder, "report.html").exists()
    status, out, _ = run(*command, "--data", pictures)
    assert status == 0
    assert "[4/4] relu-seed0: " in out
    assert "acon-c-seed0" not in out
    assert f"report: runs/{folder}/report.html" in out
    assert len(Path("runs", folder, "rows.jsonl").read_text().splitlines()) >= 4


def test_cells_of_a_study(run: Run) -> None:
    _, out, _ = run("compare", "--study", "cifar", "--quick", "--data", "digits", "--list-cells")
    assert out.splitlines()[0] == "  0  resnet8-paper relu-seed0"


def test_quiet_runs_print_the_tables_alone(run: Run, pictures: str) -> None:
    status, out, _ = run(*RUNS, "--data", pictures, "--out", "here", "--progress", "quiet", "--seeds", "1")
    assert status == 0
    assert "seed0" not in out
    for part in ("test error %", "images/s", "report: here/report.html"):
        assert part in out


@pytest.mark.parametrize(("end", "status"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)], ids=repr)
def test_how_a_stop_ends(run: Run, monkeypatch: pytest.MonkeyPatch, end: BaseException, status: int) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise end

    monkeypatch.setattr("aconite.lab.runs.compare_runs", stop)
    told = "\nstopped; the same command goes on from the last finished epoch in here\n"
    assert run(*RUNS, "--data", "pictures", "--out", "here") == (status, "", told)


def test_what_a_cluster_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Cluster | None] = []

    def ask(*arguments: Any, cluster: Cluster | None) -> None:
        asked.append(cluster)
        raise KeyboardInterrupt

    monkeypatch.setattr("aconite.lab.compare", ask)
    run("compare", "--device", "cpu")
    run("compare", "--device", "cpu", "--cluster", "auto")
    run("compare", "--cluster", "10.0.0.1:6379", "--cell-cpus", "4", "--cell-gpus", "0.5")
    assert asked == [
        None, Cluster(address="auto", cpus=1, gpus=0), Cluster(address="10.0.0.1:6379", cpus=4, gpus=0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--cells", "7"), "--cells is '7': there are 4, from 0 to 3 (see --list-cells)"),
        (("--cells", "2-1"), "--cells is '2-1': there are 4, from 0 to 3 (see --list-cells)"),
        (("--cells", "a"), "--cells is 'a': give numbers, such as 3 or 0-4,7"),
        (("--cells", "0", "--cluster", "local"), "--cells trains here and --cluster there: give one of them"),
        (("--cell-gpus", "1"), "--cell-gpus belongs to a cluster: add --cluster local"),
        (("--cluster", "local", "--cell-cpus", "0"), "a job on 0 cores"),
        (("--task", "pottery"), "invalid choice: 'pottery'"),
        (("--task", "detection", "--label-smoothing", "0.1"), "unknown option '--label-smoothing'"),
        (("--task",), "--task: expected one argument"),
    ],
)
def test_mistakes(run: Run, options: tuple[str, ...], told: str) -> None:
    status, out, err = run(*QUICK, *options)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_ray_is_imported_only_when_it_is_asked_for(run: Run, pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(*QUICK, "--data", pictures, "--cells", "0")[0] == 0
    status, _, err = run(*QUICK, "--data", pictures, "--cluster", "local")
    assert status == 2
    assert "pip install 'aconite[cluster]'" in err
