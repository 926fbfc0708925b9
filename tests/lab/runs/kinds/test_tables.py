"""The paper's tables of detection and segmentation, filled by whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aconite.errors import SettingsError
from aconite.lab import PublishedTable, find_rows, measure_table, published_table, train_table_runs
from aconite.lab.runs import RunSettings

Make = Callable[..., RunSettings]


def light(name: str) -> PublishedTable:
    """The first two rows of the paper's table, with the smallest backbone."""
    table = published_table(name)
    return replace(table, rows=[replace(row, network="shufflenetv2_x0_5") for row in table.rows[:2]])


@pytest.mark.parametrize(("name", "shares"), [("detection", {"mAP": "map", "AP75": "map_75"}),
                                              ("segmentation", {"mIoU": "miou"})])  # fmt: skip
def test_runs_fill_the_table_and_go_on(
    name: str, shares: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make: Make = request.getfixturevalue(name)
    shared, table = make(steps=1, epochs=None, model="resnet18", se=True, seed=7), light(name)
    train_table_runs(table, shared, tmp_path, seeds=1)
    folder = tmp_path / "shufflenetv2_x0_5"
    written = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    kept = {"model": "shufflenetv2_x0_5", "se": False, "seed": 0, "lr": shared.lr, "steps": 1}
    for row in written:
        assert {key: row["settings"][key] for key in kept} == kept
    [budget] = measure_table(table, image_size=32, rows=find_rows([tmp_path])).budgets
    for row, found in zip(table.rows, written, strict=True):
        for metric, share in shares.items():
            assert budget.results[row][metric].values == {0: 100 * found[share]}
    assert {path.name for path in (folder / "runs").iterdir()} == {"relu-seed0", "swish-seed0"}

    def train(*_: Any) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("aconite.lab.runs.comparison.train", train)
    train_table_runs(table, shared, tmp_path, seeds=1)


def test_what_is_refused_leaves_nothing(detection: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="settings are of detection, and table segmentation is of segmentation"):
        train_table_runs(light("segmentation"), detection(), tmp_path / "out")
    with pytest.raises(SettingsError, match="seeds is 0"):
        train_table_runs(light("detection"), detection(), tmp_path / "out", seeds=0)
    assert not (tmp_path / "out").exists()
