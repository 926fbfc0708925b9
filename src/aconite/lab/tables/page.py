"""The page of a measured table, and the bars of its gains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aconite.errors import SettingsError
from aconite.lab.tables.measured import MeasuredTable
from aconite.lab.tables.printed import PublishedTable
from aconite.lab.tables.rendering import columns_of
from aconite.report import Page, check_figure_name, gain_bars, write_figure

__all__ = ["check_bars", "table_page", "write_bars"]

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


def check_bars(table: PublishedTable, path: Path) -> None:
    """Ask before anything is trained or measured whether `write_bars` will draw it.

    Raises:
        SettingsError: the table is none of gains, or ``path`` has another ending than .svg, .png or .pdf.
    """
    if list(table.metrics) != ["gain"]:
        raise SettingsError(f"table {table.name} has no bars to draw: figure1 has")
    check_figure_name(path)


def write_bars(measured: MeasuredTable, path: Path) -> None:
    """Write the bars of a table of gains, with the first budget's results, as .svg, .png or .pdf.

    Raises:
        SettingsError: the table is none of gains, or ``path`` has another ending.
        DataError: the file cannot be written.
    """
    check_bars(measured.table, path)
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
