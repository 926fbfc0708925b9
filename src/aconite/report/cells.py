"""How a table's cells are written, and what they sort by."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aconite.errors import SettingsError

__all__ = ["Cell", "ShownCell", "ShownColumn", "show"]

Cell = str | float | None

_DIGITS = 4
_LEADING = re.compile(r"\s*([+\-\N{MINUS SIGN}]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+-]?\d+)?)×?(?=$|[\s±%(])")


@dataclass(frozen=True)
class ShownCell:
    """``key``, always finite, is what the cell sorts by in a numeric column; a missing one sorts last, up or down."""

    text: str
    key: float | None
    missing: bool


@dataclass(frozen=True)
class ShownColumn:
    """A column as the page shows it; the numbers of a numeric one stand at its right edge."""

    head: str
    numeric: bool
    cells: tuple[ShownCell, ...]


def show(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> tuple[ShownColumn, ...]:
    """Write every cell, column by column.

    >>> [name, error] = show(["name", "error"], [["relu", 3.25], ["silu", -10], ["tanh", None]])
    >>> [cell.text for cell in error.cells], [cell.key for cell in error.cells], error.numeric, name.numeric
    (['3.25', '−10.00', '–'], [3.25, -10.0, None], True, False)
    """
    if not columns:
        raise SettingsError("a table needs at least one column")
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise SettingsError(f"row {number} has {len(row)} cells for {len(columns)} columns ({', '.join(columns)})")
    return tuple(
        _column(head, [_checked(row[at], head, number) for number, row in enumerate(rows, 1)])
        for at, head in enumerate(columns)
    )


def _checked(cell: object, head: str, row: int) -> Cell:
    if cell is None or isinstance(cell, str | int | float):
        return cell
    raise SettingsError(
        f"row {row} of column {head!r} is a {type(cell).__name__}; "
        "a cell is a string, a number (write float(x)) or None"
    )


def _column(head: str, cells: Sequence[Cell]) -> ShownColumn:
    values = [float(cell) for cell in cells if isinstance(cell, int | float)]
    spec = _spec(value for value in values if math.isfinite(value))
    shown = tuple(_cell(cell, spec) for cell in cells)
    present = [cell for cell in shown if not cell.missing]
    return ShownColumn(head, bool(present) and all(cell.key is not None for cell in present), shown)


def _cell(cell: Cell, spec: str) -> ShownCell:
    if cell is None:
        return ShownCell("–", None, True)
    if isinstance(cell, str):
        found = _LEADING.match(cell)
        number = found[1].replace(",", "").replace("\N{MINUS SIGN}", "-") if found else None
        return ShownCell(cell, None if number is None else _key(float(number)), False)
    value = float(cell)
    if math.isnan(value):
        return ShownCell("nan", None, True)
    text = format(value, spec) if math.isfinite(value) else str(value).replace("inf", "∞")
    return ShownCell(text.replace("-", "\N{MINUS SIGN}"), _key(value), False)


def _key(value: float) -> float:
    """JavaScript does not read "inf"."""
    return min(max(value, -sys.float_info.max), sys.float_info.max)


def _spec(values: Iterable[float]) -> str:
    """One format for a column: four significant digits of its largest number, fewer if all the last ones are zero."""
    numbers = list(values)
    top = max(map(abs, numbers), default=0.0)
    if top and not 1e-4 <= top < 1e15:
        return f".{_DIGITS}g"
    most = max(0, _DIGITS - 1 - math.floor(math.log10(top))) if top else 0
    least = next(d for d in range(most + 1) if all(round(v, d) == round(v, most) for v in numbers))
    return f",.{least}f"
