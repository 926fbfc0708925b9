"""The results that the pages quote are those of the committed rows, worked out here a second time."""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
Arm = tuple[str, str, str]  # network, activation, init
_INTERVAL = re.compile(r"([+−][\d.]+) \(([+−][\d.]+) … ([+−][\d.]+)\)")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / name).read_text("utf-8").splitlines()]


def tables(text: str) -> list[list[list[str]]]:
    """The cells of a page's tables, each with its heads first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                found.append([])
            if not line.startswith("| ---"):
                found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        inside = line.startswith("|")
    return found


def arms(name: str) -> dict[Arm, dict[int, float]]:
    errors: dict[Arm, dict[int, float]] = defaultdict(dict)
    for row in read(name):
        learnt = row["activation"] in ("acon-c", "meta-acon")
        label = row["activation"] + " + SE" * row["settings"].get("se", False)
        errors[row["model"], label, row["settings"]["init"] if learnt else "–"][row["seed"]] = row["error"]
    return errors


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def differences(errors: dict[Arm, dict[int, float]], heads: list[str], cells: list[str]) -> Any:
    """The paired differences that a line of a table of differences is about."""
    told = dict(zip(heads, cells, strict=True))
    network = told.get("network", "resnet8")
    if network == "per doubling":
        swish, relu = (
            values(errors, ("resnet20", name, "–")) - values(errors, ("resnet8", name, "–"))
            for name in ("swish", "relu")
        )
        return (swish - relu) / np.log2(20 / 8)
    if "against" in told:
        names = ("acon-c", "meta-acon") if told["activation"] == "all" else (told["activation"],)
        sides = [[values(errors, (network, name, told[side])) for name in names] for side in ("init", "against")]
        return np.mean(sides[0], 0) - np.mean(sides[1], 0)
    pair = [(network, told[side], _init(told[side], told.get("init", "–"))) for side in ("better", "than")]
    return values(errors, pair[0]) - values(errors, pair[1])


def _init(activation: str, init: str) -> str:
    return init if activation in ("acon-c", "meta-acon") else "–"


def values(errors: dict[Arm, dict[int, float]], arm: Arm) -> Any:
    return np.array([errors[arm][seed] for seed in range(5)])


@pytest.mark.parametrize(
    ("heading", "name", "means", "intervals"),
    [
        ("## A reduced run", "study-cifar10-small.jsonl", 7, 16),
        ("## A second reduced run", "study-cifar10-small-16px.jsonl", 12, 9),
    ],
)
def test_the_study_s_tables(heading: str, name: str, means: int, intervals: int) -> None:
    page, errors = (ROOT / "docs/study.md").read_text("utf-8"), arms(name)
    section = page.partition(heading)[2].partition("\n## ")[0]
    seen = {"means": 0, "intervals": 0}
    for heads, *rows in tables(section):
        for cells in rows:
            if heads[-1] == "test error %":
                *arm, shown = cells
                found = values(errors, ("resnet8", *arm) if len(arm) == 2 else tuple(arm))
                assert shown == f"{statistics.fmean(found):.2f} ± {statistics.stdev(found):.2f}"
                seen["means"] += 1
                continue
            shown = _INTERVAL.fullmatch(cells[heads.index("difference")])
            assert shown is not None, cells
            found = differences(errors, heads, cells)
            low, high = stats.ttest_1samp(found, 0).confidence_interval(0.95)
            assert [number(each) for each in shown.groups()] == pytest.approx([found.mean(), low, high], abs=0.0051)
            seen["intervals"] += 1
    assert seen == {"means": means, "intervals": intervals}


def test_the_costs_of_table_activations() -> None:
    page = (ROOT / "docs/tables.md").read_text("utf-8").partition("What they cost here")[2].partition("```")[0]
    rows = json.loads((RESULTS / "table-activations.json").read_text("utf-8"))["rows"]
    for row in rows:
        cost = row["cost"]
        told = [f"{row['label']}, {row['activation']}"]
        for part in ("training", "inference"):
            low, middle, high = cost[f"{part}_ratio"]
            told.append(f"{middle:.2f} ({low:.2f}–{high:.2f}) {cost[f'{part}_ms'][1]:.1f}")
        told.append(f"{cost['peak_ratio']:.2f} {cost['peak_bytes'] / 1e6:.1f}")
        assert " ".join(told) in re.sub(r" +", " ", page)
    assert len(rows) == 7


def test_what_fine_tuning_gained() -> None:
    ((_, *lines),) = tables((ROOT / "docs/fine-tuning.md").read_text("utf-8"))
    errors: dict[str, dict[int, float]] = defaultdict(dict)
    for row in read("fine-tuning.jsonl"):
        errors[row["arm"]][row["seed"]] = row["error"]
    relu, *others = (errors[arm] for arm in ("relu", "acon-c, lr", "acon-c, lr / 10"))
    for seed, line in enumerate(lines[:-1]):
        assert line == [str(seed), *(f"{arm[seed]:.1f}" for arm in (relu, *others))]
    for shown, arm in zip(lines[-1][2:], others, strict=True):
        found = np.array([arm[seed] - relu[seed] for seed in range(5)])
        half = stats.t.ppf(0.975, 4) * found.std(ddof=1) / 5**0.5
        assert [number(each) for each in shown.split(" ± ")] == pytest.approx([found.mean(), half], abs=0.0501)


def test_how_equal_the_reference_networks_are() -> None:
    page = " ".join((ROOT / "docs/reference-checkpoints.md").read_text("utf-8").split())
    rows = read("reference-parity.jsonl")
    assert f"agree to {_short(max(max(row['float64']) for row in rows))}:" in page
    (tfnet,) = (row for row in rows if row["network"] == "tfnet_2_0")
    deep = [row for row in rows if row["network"] in ("resnet101", "resnet152")]
    close = [row for row in rows if max(row["float32"]) < 1e-5]
    assert f"below 1e-5 in {len(close)} of the {len(rows)} networks" in page
    assert all(row in (tfnet, *deep) for row in rows if row not in close)
    low, *_, high = sorted(max(row["float32"]) for row in deep)
    assert f"{_short(max(tfnet['float32']), 2)} in TFNet 2.0, and {_short(low)} to {_short(high)} in ResNet-101" in page
    assert all(max(row["float32"]) < max(row["rounding_theirs"]) for row in (tfnet, *deep))


def _short(value: float, digits: int = 1) -> str:
    return re.sub(r"e-0?", "e-", f"{value:.{digits}e}")
