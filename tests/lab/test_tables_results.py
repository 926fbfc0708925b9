from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aconite.errors import DataError
from aconite.lab import find_rows, published_table
from aconite.lab.tables.results import results_for

Row = dict[str, Any]


def row_of(activation: str, seed: int, error: float, model: str = "resnet18", **changes: Any) -> Row:
    settings = {"data": "digits", "content": "abc", "model": model, "activations": ["relu"], "seeds": 3, "epochs": 30}
    own = {name: changes.pop(name) for name in list(changes) if name in ("epochs", "data", "se", "seeds")}
    row = {"kind": "cell", "model": model, "activation": activation, "seed": seed, "error": error, "diverged": False}
    return row | {"settings": settings | own} | changes


def result(table_name: str, rows: list[Row], label: str, variant: str, metric: str = "error") -> Any:
    table = published_table(table_name)
    [budget] = results_for(table, rows)
    [row] = [row for row in table.rows if (row.label, row.variant) == (label, variant)]
    return budget.results[row].get(metric)


def test_mean_and_deviation_over_seeds() -> None:
    rows = [row_of("acon-c", seed, error) for seed, error in ((2, 12.0), (0, 10.0), (1, 14.0))]
    found = result("3", rows, "ResNet-18", "acon-c")
    assert list(found.values.items()) == [(0, 10.0), (1, 14.0), (2, 12.0)]
    assert (found.mean, found.deviation) == (12.0, 2.0)
    assert result("3", rows, "ResNet-18", "acon-b") is None
    assert result("3", rows[:1], "ResNet-18", "acon-c").deviation is None


def test_swish_and_acon_a_are_one_activation() -> None:
    assert result("3", [row_of("swish", 0, 9.0)], "ResNet-18", "acon-a").mean == 9.0
    assert (
        result("activations", [row_of("acon-a", 0, 9.0, "shufflenetv2_x0_5")], "ShuffleNetV2 0.5×", "swish").mean == 9
    )


def test_gain_is_paired_by_seed() -> None:
    """ReLU's error minus its own; the seeds that only one of them has are left out."""
    rows = [row_of("relu", 0, 20.0, "resnet50"), row_of("relu", 1, 30.0, "resnet50")]
    rows += [row_of("meta-acon", 1, 26.0, "resnet50"), row_of("meta-acon", 2, 1.0, "resnet50")]
    assert dict(result("figure1", rows, "ResNet-50", "meta-acon", "gain").values) == {1: 4.0}
    assert result("figure1", rows, "ResNet-50", "relu", "gain") is None
    assert result("figure1", rows, "ResNet-50", "swish", "gain") is None


def test_se_is_another_network() -> None:
    rows = [row_of("relu", 0, 20.0, "resnet50"), row_of("relu", 0, 19.0, "resnet50", se=True)]
    assert dict(result("figure1", rows, "ResNet-50", "relu + SE", "gain").values) == {0: 1.0}


def test_budgets_are_never_mixed() -> None:
    rows = [row_of("relu", 0, 20.0), row_of("relu", 0, 15.0, epochs=60), row_of("relu", 0, 9.0, data="mnist5k")]
    rows.append(row_of("acon-c", 0, 18.0, seeds=5))  # how many seeds were planned is no difference
    budgets = results_for(published_table("3"), rows)
    assert [budget.words for budget in budgets] == ["digits: epochs 30", "digits: epochs 60", "mnist5k: epochs 30"]
    assert [sum(map(bool, budget.results.values())) for budget in budgets] == [2, 1, 1]


def test_other_networks_and_tasks_are_left_out() -> None:
    assert results_for(published_table("3"), [row_of("relu", 0, 1.0, "resnet20")]) == []
    assert results_for(published_table("detection"), [row_of("relu", 0, 1.0, "resnet50")]) == []


def test_rows_of_a_detection_training_fill_its_table() -> None:
    row = row_of("swish", 0, 0.0, "retinanet", task="detection", backbone="resnet50", mAP=35.0, AP50=50.0)
    del row["error"]
    assert result("detection", [row], "RetinaNet R50", "swish", "mAP").mean == 35.0
    assert result("detection", [row], "RetinaNet R50", "swish", "AP75") is None
    assert results_for(published_table("meta"), [row]) == []


def test_the_same_row_twice_counts_once_and_another_is_an_error() -> None:
    assert len(result("3", [row_of("relu", 0, 1.0), row_of("relu", 0, 1.0)], "ResNet-18", "relu").values) == 1
    with pytest.raises(DataError, match="two results for resnet18 with relu, seed 0"):
        results_for(published_table("3"), [row_of("relu", 0, 1.0), row_of("relu", 0, 2.0)])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *rows: Row) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make


def test_rows_are_found_below_a_folder_each_file_once(write: Callable[..., Path], tmp_path: Path) -> None:
    first = write("runs/a/rows.jsonl", row_of("relu", 0, 1.0), {"kind": "cost", "model": "resnet18"})
    write("runs/b/c/rows.jsonl", row_of("relu", 1, 2.0))
    write("runs/b/c/other.jsonl", row_of("relu", 2, 3.0))
    assert [row["seed"] for row in find_rows([tmp_path / "runs", first])] == [0, 1]
    assert [row["seed"] for row in find_rows([tmp_path / "runs/b/c/other.jsonl"])] == [2]
    assert find_rows([]) == []


@pytest.mark.parametrize("line", ["{", "3", '{"kind": "cell", "model": "resnet18"}', "[]", '{"no": "kind"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row_of("relu", 0, 1.0)) + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"rows.jsonl, line 2 is no row"):
        find_rows([tmp_path])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no rows\.jsonl in"):
        find_rows([tmp_path])
    with pytest.raises(DataError, match=r"cannot read .*away.jsonl: No such file"):
        find_rows([tmp_path / "away.jsonl"])
