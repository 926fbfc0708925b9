"""What has been trained: rows found on disk, sorted by the data and the budget behind them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aconite.errors import DataError
from aconite.lab.rows import Row
from aconite.lab.tables.printed import PublishedRow, PublishedTable

__all__ = ["Budget", "Result", "find_rows", "results_for"]

# what may differ between trainings that stand in one column
_NOT_BUDGET = {"model", "activation", "activations", "seed", "seeds", "se"}
_SHARES = {  # the paper's figures in %, and the rows' that are shares
    "mIoU": "miou", "mAP": "map", "AP50": "map_50", "AP75": "map_75", "APs": "map_small", "APm": "map_medium",
    "APl": "map_large",
}  # fmt: skip
_Key = tuple[str, str, bool]  # network, activation, se


@dataclass(frozen=True)
class Result:
    """A metric of one row under one budget: seed → value, and how many of the trainings diverged."""

    values: Mapping[int, float]
    diverged: int

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Budget:
    """The data and settings that a column's trainings share, and its results: row → metric → Result."""

    data: str
    settings: Mapping[str, Any]
    results: Mapping[PublishedRow, Mapping[str, Result]]

    @property
    def words(self) -> str:
        """The budget in a sentence's worth of words."""
        told = {name: value for name, value in self.settings.items() if name not in ("data", "content")}
        shown = (f"{name.replace('_', ' ')} {value}" for name, value in told.items() if value is not None)
        return f"{self.data}: {', '.join(shown)}"


def find_rows(paths: Iterable[Path | str]) -> list[Row]:
    """The rows of finished trainings in these files, and in every ``rows.jsonl`` at or below these folders.

    Raises:
        DataError: nothing is there, or a line is no row; the message names it.
    """
    files: dict[Path, Path] = {}  # a folder and a file in it may both be named
    for path in map(Path, paths):
        found = sorted(path.rglob("rows.jsonl")) if path.is_dir() else [path]
        if not found:
            raise DataError(f"no rows.jsonl in {path}: name the folder of a run of `aconite compare`, or one above it")
        files |= {file.resolve(): file for file in found}
    return [row for file in files.values() for row in _read(file) if row.get("kind") == "cell"]


def results_for(table: PublishedTable, rows: Iterable[Row]) -> list[Budget]:
    """The results that belong into the table, a Budget for each combination of data and settings among them.

    A row belongs where its task (classification if it names none), its network (``backbone`` if it names one, else
    ``model``), its activation and its ``se`` are the table's. A metric is looked up in it by name, mAP and mIoU by that
    of `aconite train` too; "gain" is the ReLU row's error minus its own, seed by seed.

    Raises:
        DataError: two rows for one training disagree.
    """
    wanted = {(row.network, _plain(row.activation), row.se) for row in table.rows}
    budgets: dict[str, dict[_Key, dict[int, Row]]] = {}
    for row in rows:
        key = _key(row)
        if key not in wanted or row.get("task", "classification") != table.task:
            continue
        trained = budgets.setdefault(_budget(row), {}).setdefault(key, {})
        other = trained.setdefault(row["seed"], row)
        if any(_value(other, metric) != _value(row, metric) for metric in ("error", *table.metrics)):
            raise DataError(
                f"two results for {row['model']} with {row['activation']}, seed {row['seed']}, under the same settings "
                "that differ: pass the rows of one run only"
            )
    return [_results(table, json.loads(words), trained) for words, trained in budgets.items()]


def _results(table: PublishedTable, settings: Mapping[str, Any], trained: Mapping[_Key, Mapping[int, Row]]) -> Budget:
    results = {}
    for row in table.rows:
        cells = trained.get(_row_key(row), {})
        relu = trained.get(_row_key(table.baseline(row)), {})
        found = {metric: _values(metric, cells, {} if cells is relu else relu) for metric in table.metrics}
        diverged = sum(cell.get("diverged", False) for cell in cells.values())
        results[row] = {metric: Result(values, diverged) for metric, values in found.items() if values}
    return Budget(settings["data"], settings, results)


def _values(metric: str, cells: Mapping[int, Row], relu: Mapping[int, Row]) -> dict[int, float]:
    if metric == "gain":
        return {seed: relu[seed]["error"] - cells[seed]["error"] for seed in sorted(cells.keys() & relu.keys())}
    values = {seed: _value(cell, metric) for seed, cell in sorted(cells.items())}
    return {seed: value for seed, value in values.items() if value is not None}


def _value(row: Row, metric: str) -> float | None:
    if metric in _SHARES and metric not in row:
        share: float | None = row.get(_SHARES[metric])
        return None if share is None else 100 * share
    return row.get(metric)


def _key(row: Row) -> _Key:
    return row.get("backbone") or row["model"], _plain(row["activation"]), bool(row["settings"].get("se"))


def _row_key(row: PublishedRow) -> _Key:
    return row.network, _plain(row.activation), row.se


def _plain(activation: str) -> str:
    return {"acon-a": "swish"}.get(activation, activation)  # two names of one activation


def _budget(row: Row) -> str:
    shared = {name: value for name, value in row["settings"].items() if name not in _NOT_BUDGET}
    return json.dumps(shared, sort_keys=True)


def _read(file: Path) -> Iterator[Row]:
    try:
        lines: Sequence[str] = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row["kind"] == "cell":
                row["model"], row["activation"], row["seed"], row["settings"]["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}, line {number} is no row of a training: expected what `aconite compare` writes"
            ) from error
        yield row
