"""A measured table in columns, for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Sequence

from aconite.bench import Quantiles
from aconite.lab.table import Columns, print_columns
from aconite.lab.tables.measured import MeasuredTable
from aconite.lab.tables.printed import PUBLISHED_SIZE, PublishedRow
from aconite.lab.tables.results import Budget, Result

__all__ = ["columns_of", "print_measured"]

_METRICS = {"error": "error %", "gain": "gain over ReLU"}
_BESIDE = 3  # so many metrics stand beside each other; more have a line each
_Cells = list[str | float | None]


def columns_of(measured: MeasuredTable) -> dict[str, Columns]:
    """Caption → heads, rows and note: the results, the counts and, where measured, the costs."""
    found = {measured.table.title: _results(measured), "What the networks are": _counts(measured)}
    return found | ({"What they cost here, in units of ReLU's cost": _costs(measured)} if measured.costs else {})


def print_measured(measured: MeasuredTable) -> None:
    """Print the table: published, found and counted figures side by side, each part with its note."""
    for caption, columns in columns_of(measured).items():
        print_columns(columns, caption)


def _results(measured: MeasuredTable) -> Columns:
    metrics, budgets = measured.table.metrics, measured.budgets
    here = [f"here {number}" for number in range(1, 1 + len(budgets))] or ["here"]
    note = " ".join(_result_notes(budgets))
    if len(metrics) > _BESIDE:
        heads = ["network, activation", "metric", "published", *here]
        return heads, [_line(measured, row, metric) for row in measured.table.rows for metric in metrics], note
    names = [_METRICS.get(metric, metric) for metric in metrics]
    heads = ["network, activation", *(f"{name}, {which}" for which in ("published", *here) for name in names)]
    rows: list[_Cells] = []
    for row in measured.table.rows:
        lines = [_line(measured, row, metric)[2:] for metric in metrics]
        rows.append([_name(row), *(cell for cells in zip(*lines, strict=True) for cell in cells)])
    return heads, rows, note


def _line(measured: MeasuredTable, row: PublishedRow, metric: str) -> _Cells:
    results = [_result(budget.results[row].get(metric)) for budget in measured.budgets] or [None]
    return [_name(row), metric, _figure(row.figures.get(metric)), *results]


def _result_notes(budgets: Sequence[Budget]) -> list[str]:
    if not budgets:
        return ["Here: empty, as no training of these rows was found: --rows names files of some, --train makes them."]
    notes = ["Here: mean ± standard deviation over the seeds (and how many)."]
    for number, budget in enumerate(budgets, 1):
        notes.append(f"{number}: {budget.words}.")
        for row, found in budget.results.items():
            if diverged := max((result.diverged for result in found.values()), default=0):
                notes.append(f"{_name(row)}: {diverged} diverged and count with the error of guessing.")
    return notes


def _counts(measured: MeasuredTable) -> Columns:
    heads = ["network, activation", "parameters", "counted", "mult-adds", "counted (M)", "element-wise (M)"]
    rows: list[_Cells] = []
    for row in measured.table.rows:
        counts = measured.counts[row]
        mark = dict.fromkeys(measured.beyond_rounding(row), " *")
        parameters = f"{counts.parameters:,}{mark.get('parameters', '')}"
        adds = f"{counts.multiply_adds / 1e6:,.2f}{mark.get('multiply_adds', '')}"
        rows.append(
            [_name(row), row.parameters, parameters, row.multiply_adds, adds, f"{counts.elementwise / 1e6:,.2f}"]
        )
    note = (
        f"Published, and counted for one image of {measured.image_size}×{measured.image_size} pixels and 1000 classes"
        + ("; " if measured.image_size == PUBLISHED_SIZE else f" (published: {PUBLISHED_SIZE}×{PUBLISHED_SIZE}); ")
        + "* differs by more than the published figure's rounding. Multiply-adds: of convolutions and linear layers. "
        "Element-wise: the operations of norms, activations, sums and pooling."
    )
    return heads, rows, note + _of_what(measured)


def _costs(measured: MeasuredTable) -> Columns:
    settings = measured.cost_settings
    assert settings is not None
    heads = ["network, activation", "training step", "ms", "inference", "ms", "peak", "MB"]
    rows: list[_Cells] = []
    for row in measured.table.rows:
        cost = measured.costs[row]
        training = _spread(cost.training_ratio), f"{cost.training_ms.p50:.1f}"
        inference = _spread(cost.inference_ratio), f"{cost.inference_ms.p50:.1f}"
        rows.append([_name(row), *training, *inference, f"{cost.peak_ratio:.2f}", f"{cost.peak_bytes / 1e6:.1f}"])
    note = (
        f"{settings.batch_size} images of {settings.image_size}×{settings.image_size} pixels on {settings.device}, in "
        "turns: median of the ratio to the plain ReLU row of the same group in the same round (20th–80th percentile), "
        "and median in ms. Peak: the most memory that training holds at one moment, parameters and momentum included."
    )
    return heads, rows, note + _of_what(measured)


def _of_what(measured: MeasuredTable) -> str:
    if measured.table.task == "classification":
        return ""
    return " Of the backbone as a classifier, without what the task adds to it."


def _name(row: PublishedRow) -> str:
    return f"{row.label}, {row.variant}"


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _result(result: Result | None) -> str | None:
    if result is None:
        return None
    spread = "" if result.deviation is None else f" ± {result.deviation:.2f}"
    return f"{result.mean:.2f}{spread} ({len(result.values)})"


def _spread(ratio: Quantiles) -> str:
    return f"{ratio.p50:.2f} ({ratio.p20:.2f}–{ratio.p80:.2f})"
