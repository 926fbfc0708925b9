"""The page of a measured table, and the bars of its gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aconite.errors import SettingsError
from aconite.lab.tables.measured import MeasuredTable
from aconite.lab.tables.rendering import columns_of
from aconite.report import Page, gain_bars, write_figure

__all__ = ["table_page", "write_bars"]

_Published = dict[str, dict[str, float]]
_Measured = dict[str, dict[str, Sequence[float]]]


def table_page(measured: MeasuredTable) -> Page:
    """The table as one HTML page, with its bars where it is one of gains."""
    page = Page(measured.table.title, subtitle="Published figures beside what is measured here")
    for caption, (heads, rows, note) in columns_of(measured).items():
        page.table(heads, rows, caption=f"{caption}.", note=note)
    if list(measured.table.metrics) == ["gain"]:
        for number in range(max(1, len(measured.budgets))):
            published, found = _gains(measured, number)
            page.figure(
                gain_bars(published, found),
                alt=f"Bars of the gain over ReLU in {', '.join(published)}.",
                caption=f"Measured with {measured.budgets[number].words}." if measured.budgets else "Published gains.",
            )
    return page


def write_bars(measured: MeasuredTable, path: Path) -> None:
    """Write the bars of a table of gains, with the first budget's results, as .svg, .png or .pdf.

    Raises:
        SettingsError: the table is none of gains, or ``path`` has another ending.
        DataError: the file cannot be written.
    """
    if list(measured.table.metrics) != ["gain"]:
        raise SettingsError(f"table {measured.table.name} has no bars to draw: figure1 has")
    write_figure(gain_bars(*_gains(measured, 0)), path)


def _gains(measured: MeasuredTable, budget: int) -> tuple[_Published, _Measured]:
    published: _Published = {}
    found: _Measured = {}
    for row in measured.table.rows:
        if "gain" not in row.figures:
            continue
        name = "SE" if row.se else row.activation
        published.setdefault(row.label, {})[name] = row.figures["gain"]
        if measured.budgets and (result := measured.budgets[budget].results[row].get("gain")):
            found.setdefault(row.label, {})[name] = list(result.values.values())
    return published, found
