"""`aconite search`, and formulas on the command line of `aconite compare`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aconite.cli.names import names as _names
from aconite.cli.search import add_search

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("aconite.lab.comparison._COST_SECONDS", 0.0)
    monkeypatch.setattr("aconite.lab.search.finalists._COST_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(np.full((8, 8), 120 * label + 10 * number, np.uint8)).save(folder / f"{number}.png")
    return "pictures"


QUICK = (
    "search", "--space", "maxout", "--trials", "4", "--finalists", "2", "--seeds", "1", "--epochs", "1",
    "--batch-size", "4", "--device", "cpu",
)  # fmt: skip


def test_search_prints_the_table_and_where_the_report_is(run: Run, pictures: str, tmp_path: Path) -> None:
    status, out, err = run(*QUICK, "--data", pictures)
    assert (status, err) == (0, "")
    for part in ("4 functions were tried, of the space's 151", "relu", "Chosen by", "Trained once as the candidates"):
        assert part in out
    assert f"report: {Path('runs/search-pictures-maxout/report.html')}" in out
    assert (tmp_path / "runs/search-pictures-maxout/rows.jsonl").exists()
    status, again, _ = run(*QUICK, "--data", pictures, "--quiet")
    assert status == 0
    assert "finalists:" not in again


def test_help_states_the_defaults_as_they_are() -> None:
    from aconite.lab.search import SearchSettings

    parser = argparse.ArgumentParser()
    add_search(parser.add_subparsers())
    search = parser._subparsers._group_actions[0].choices["search"]  # type: ignore[union-attr, index, call-overload]
    told = {action.dest: action.help or "" for action in search._actions}
    for field in dataclasses.fields(SearchSettings):
        shown = told[field.name]
        if field.default is None:
            assert "default" in shown, field.name
        else:
            assert f"(default {field.default}" in shown or f"{field.default} (default" in shown, field.name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--space", "cores"), "space is 'cores': choose one of core, maxout"),
        (("--strategy", "random", "--space", "core", "--trials", "0"), "trials is 0"),
        (("--model", "resnet9"), "unknown model 'resnet9'"),
        (("--storage", "nonsense"), "cannot open the nonsense storage"),
        (("--data", "nowhere"), "no data at nowhere"),
        (("--trails", "4"), "unknown option '--trails': did you mean '--trials'?"),
        (("--out", "pictures/train/cat/0.png/run"), "cannot write to pictures/train/cat/0.png/run"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run: Run, pictures: str, arguments: tuple[str, ...], told: str) -> None:
    status, out, err = run(*QUICK, "--data", pictures, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("aconite: error: ")
    assert told in err
    assert len(err.splitlines()) == 1


def test_ctrl_c_says_how_to_go_on(run: Run, pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from aconite.lab.search import candidates

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(candidates, "train_child", interrupted)
        status, _, err = run(*QUICK, "--data", pictures, "--out", "here")
    assert status == 130
    assert "the same command goes on with the search in here" in err
    assert run(*QUICK, "--data", pictures, "--out", "here")[0] == 0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("relu,acon-c", ("relu", "acon-c")),
        (" relu , x * sigmoid(beta * x),", ("relu", "x * sigmoid(beta * x)")),
        ("smax(x, max(0, sin(x)), beta),relu", ("smax(x, max(0, sin(x)), beta)", "relu")),
        ("max(x, 0), min(x, 0)", ("max(x, 0)", "min(x, 0)")),
    ],
)
def test_commas_separate_names_but_not_inside_brackets(text: str, names: tuple[str, ...]) -> None:
    assert _names(text) == names


def test_compare_takes_formulas(run: Run, pictures: str, tmp_path: Path) -> None:
    status, out, err = run(
        "compare", "--data", pictures, "--activations", "relu,max(x, 0) / 1,smax(x, 0, beta)", "--seeds", "1",
        "--epochs", "1", "--batch-size", "4", "--device", "cpu", "--out", "run",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "smax(x, 0, beta)-seed0: test error" in out
    names = {path.name for path in (tmp_path / "run" / "cells").iterdir()}
    assert len(names) == 3
    assert all("/" not in name and "*" not in name for name in names)
    status, _, err = run("compare", "--data", pictures, "--activations", "relu,x * (beta")
    assert status == 2
    assert "cannot read the expression 'x * (beta': expected ')' at its end" in err
