"""What a comparison of runs says: tables for the terminal, and report.html."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from aconite.lab.compare_page import sentence
from aconite.lab.rows import Row
from aconite.lab.summary import Metric, Standing, cells_of
from aconite.lab.table import Columns, standing_table, verdict
from aconite.report import Interval, Page, interval_chart, metric_curves

__all__ = ["runs_page", "runs_tables"]


def runs_tables(
    metric: Metric, baseline: str, seeds: int, found: Sequence[Standing], rows: Sequence[Row]
) -> dict[str, Columns]:
    """Caption → heads, rows and note: the metric that decides, and the others with size and speed."""
    caption = f"{metric.words[0].upper()}{metric.words[1:]}."
    return {caption: standing_table(metric, baseline, seeds, found), "Other figures.": _others(metric, found, rows)}


def runs_page(metric: Metric, baseline: str, seeds: int, found: Sequence[Standing], rows: Sequence[Row]) -> Page:
    """The page for the standings of all runs' rows."""
    names, first = [standing.activation for standing in found], rows[0]
    length = f"{first['settings']['epochs']} epochs" if first["settings"]["epochs"] else (
        f"{first['settings']['steps']} steps"
    )  # fmt: skip
    page = Page(
        f"{', '.join(names)} in {first['model']} on {first['data']}",
        subtitle=f"{first['task']}, {seeds} seed{'s' if seeds > 1 else ''}, {length}",
    )
    page.text(verdict(metric, baseline, seeds, found), heading="Which activation?")
    for caption, (heads, cells, note) in runs_tables(metric, baseline, seeds, found, rows).items():
        page.table(heads, cells, caption=caption, note=note)
    differences = {
        each.activation: Interval(each.difference.mean, each.difference.low, each.difference.high)
        for each in found
        if each.difference is not None
    }
    if seeds > 1 and differences:
        page.figure(
            interval_chart(differences, label=f"difference to {baseline} in points of {metric.words}"),
            alt=f"Mean difference to {baseline} and 95 % interval of {', '.join(differences)}, as in the table above.",
            caption=f"Differences to {baseline} with their 95 % intervals; "
            f"{'above' if metric.higher_is_better else 'below'} 0 is better.",
        )
    page.text("A band reaches from the smallest to the largest seed.", heading="Training")
    for key, label, percent in (
        (metric.key, f"{metric.words} in %", metric.percent), ("train_loss", "training loss", 1.0),
    ):  # fmt: skip
        curves = {
            name: [_scaled(row["history"].get(key, []), percent) for row in cells_of(rows, name)] for name in names
        }
        if any(value is not None for runs in curves.values() for run in runs for value in run):
            page.figure(
                metric_curves(curves, label),
                alt=f"The {label} of {', '.join(names)} over the epochs.",
                caption=f"{label[0].upper()}{label[1:]}, epoch by epoch.",
            )
    page.text(sentence(first["settings"] | {"activation": None, "seed": None}), heading="Settings")
    page.text(sentence(first["provenance"]), heading="Made with")
    return page


def _others(metric: Metric, found: Sequence[Standing], rows: Sequence[Row]) -> Columns:
    """The other metrics as means over the seeds; those of single classes are in the rows."""
    known = dict.fromkeys(name for row in rows for name in row["history"])
    names = [name for name in known if name != metric.key and "/" not in name]
    heads = ["activation", *(name.replace("_", " ") for name in names), "images/s", "parameters"]
    table: list[list[str | float | None]] = []
    for each in found:
        of_it = cells_of(rows, each.activation)
        speeds = [speed for row in of_it for speed in row["timing"].get("images_per_second", [])]
        table.append([
            each.activation,
            *(_mean([row.get(name) for row in of_it]) for name in names),
            f"{statistics.median(speeds):.1f}" if speeds else None,
            of_it[0].get("parameters"),
        ])  # fmt: skip
    note = (
        "After the last epoch, means over the seeds. Images/s: learnt from, evaluations left out, median over the "
        "epochs; the runs did not take turns, so that what else the machine did may have met one more than another."
    )
    return heads, table, note


def _mean(values: Sequence[float | None]) -> str | None:
    there = [value for value in values if value is not None]
    return f"{statistics.fmean(there):.3f}" if there else None


def _scaled(values: Sequence[float | None], percent: float) -> list[float | None]:
    return [None if value is None else percent * value for value in values]
