"""What surgery did, what it left and why: a table to print, and the same as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Changes"]

Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class Changes(Generic[Row]):
    """One row for every place that was looked at; printing it gives a table.

    >>> from aconite.surgery import FuseRow
    >>> row = FuseRow(norm="bn", activation="act", kind="BatchNorm2d + AconC", action="fused")
    >>> print(Changes(rows=(row,), summary="1 BatchNorm: 1 fused"))
    norm  activation  kind                 action  reason
    bn    act         BatchNorm2d + AconC  fused
    1 BatchNorm: 1 fused
    """

    rows: tuple[Row, ...]
    """Records with the table's columns as attributes; ``dataclasses.asdict`` makes dictionaries of them."""
    summary: str
    """The line of counts below the table."""
    notes: tuple[str, ...] = ()
    """What the rows cannot say: paths of the model that were not seen."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __str__(self) -> str:
        return "\n".join([*_aligned(self.rows), self.summary, *(f"note: {note}" for note in self.notes)])


def _aligned(rows: tuple[Any, ...]) -> Iterator[str]:
    if not rows:
        return
    heads = [field.name for field in fields(rows[0])]
    lines = [heads, *(["" if (cell := getattr(row, head)) is None else str(cell) for head in heads] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
