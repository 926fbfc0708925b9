"""`aconite plot`, `inspect` and `explore` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("aconite.lab.comparison._COST_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(run: Run) -> None:
    """A run folder, ``run``, of two trainings on ``pictures``."""
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            Path("pictures", split, name).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((8, 8), 120 * label + 10 * number, np.uint8)
                Image.fromarray(pixels).save(Path("pictures", split, name, f"{number}.png"))
    options = ("--activations", "relu,acon-c", "--seeds", "1", "--epochs", "2", "--batch-size", "4", "--device", "cpu")
    assert run("compare", "--data", "pictures", *options, "--out", "run", "--quiet")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("curves", "relu", "acon-c:p1=1.2,p2=-0.8"),
        ("curves", "tanh", "--reach", "2"),
        ("family",),
        ("switching", "--p1", "1", "--p2", "0", "--betas", "0", "3"),
        ("pairs",),
    ],
)
def test_figures_of_functions(run: Run, words: tuple[str, ...]) -> None:
    for target in ((), ("--out", "new/figure.png")):
        status, out, err = run("plot", *words, *target)
        assert (status, err) == (0, "")
        file = Path(target[1] if target else f"{words[0]}.svg")
        assert out == f"figure: {file}\n"
        assert file.stat().st_size > 2000


@pytest.mark.usefixtures("trained")
def test_figures_of_runs(run: Run) -> None:
    checkpoint = "run/checkpoints/acon-c-seed0/epoch-0002.ckpt"
    for words in (
        ("training", "run"),
        ("networks", "run"),
        ("learnt", "run"),
        ("learnt", checkpoint),
        ("beta", "run", "--cell", "acon-c-seed0"),
        ("learning", "run", "--per-second", "8"),
    ):
        status, out, err = run("plot", *words)
        assert (status, err) == (0, "")
        assert Path(out.removeprefix("figure: ").strip()).stat().st_size > 2000


@pytest.mark.usefixtures("trained")
def test_inspect_writes_its_report(run: Run) -> None:
    status, out, err = run(
        "inspect", "run", "pictures", "--cell", "acon-c-seed0", "--out", "found", "--batch-size", "3"
    )
    assert (status, err) == (0, "")
    for word in ("8 images of pictures, test", "dead", "activated", "stem.act", "report: found/report.html"):
        assert word in out
    assert "What was learnt" in Path("found/report.html").read_text("utf-8")
    assert json.loads(Path("found/layers.json").read_text("utf-8"))["images"] == 8
    Path("mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.GELU(), nn.Linear(5, 2))\n"
    )
    status, out, _ = run("inspect", "mine:net", "pictures")
    assert status == 0
    assert "1 activation layers" in out


def test_explore_writes_and_opens_the_page(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run("explore")[:2] == (0, "page: explorer.html\n")
    assert opened == [(tmp_path / "explorer.html").as_uri()]
    assert run("explore", "--out", "new/page.html", "--no-open")[0] == 0
    assert len(opened) == 1
    assert Path("new/page.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plot",), "the following arguments are required: FIGURE"),
        (("plot", "curve"), "invalid choice: 'curve'"),
        (("plot", "curves", "acon-cc"), "did you mean 'acon-c'?"),
        (("plot", "curves", "relu", "--out", "x.bmp"), "a figure is written as .png, .svg, .pdf"),
        (("plot", "training", "nowhere"), "nowhere holds no finished training"),
        (("plot", "learning", "nowhere"), "nowhere holds no checkpoints"),
        (("plot", "family", "--reach", "3"), "unknown option '--reach'"),
        (("inspect", "nowhere", "digits"), "no model at nowhere"),
        (("inspect", "nowhere:model", "digits"), "cannot import nowhere"),
        (("inspect", "torch.nn:ReLU"), "which data? write digits"),
        (("inspect", "torch.nn:ReLU", "digits"), "the model returns shape (128, 1, 8, 8)"),
        (("explore", "--out", "/dev/null/x.html"), "cannot write the explorer"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run: Run, words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("aconite: error: ")
    assert told in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
