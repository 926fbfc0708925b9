"""A printed table with what can be said here about each of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aconite.errors import SettingsError
from aconite.lab.rows import Row
from aconite.lab.tables.costs import CostSettings, NetworkCost, measure_table_costs
from aconite.lab.tables.counting import Counts, count
from aconite.lab.tables.printed import PUBLISHED_SIZE, PublishedRow, PublishedTable, beyond_rounding
from aconite.lab.tables.results import Budget, results_for

__all__ = ["MeasuredTable", "measure_table"]


@dataclass(frozen=True, kw_only=True)
class MeasuredTable:
    """The counts of each row, the results of each budget that somebody has trained, and the costs if asked for."""

    table: PublishedTable
    image_size: int
    counts: Mapping[PublishedRow, Counts]
    budgets: Sequence[Budget] = ()
    cost_settings: CostSettings | None = None
    costs: Mapping[PublishedRow, NetworkCost] = field(default_factory=dict)

    def beyond_rounding(self, row: PublishedRow) -> list[str]:
        """Which of a row's counts differ from the published figures by more than their rounding.

        Multiply-adds are published for 224×224 pixels, and compared there alone.
        """
        compared = ("parameters", "multiply_adds") if self.image_size == PUBLISHED_SIZE else ("parameters",)
        counts = self.counts[row]
        return [
            name
            for name in compared
            if (printed := getattr(row, name)) is not None and beyond_rounding(printed, getattr(counts, name))
        ]


def measure_table(
    table: PublishedTable,
    *,
    image_size: int = PUBLISHED_SIZE,
    rows: Iterable[Row] = (),
    costs: CostSettings | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> MeasuredTable:
    """Count the table's networks, find its results among ``rows``, and measure its costs where ``costs`` says how.

    Args:
        table: one of :func:`published_tables`, or a part of one.
        image_size: side of the images that are counted for.
        rows: what :func:`find_rows` found.
        costs: how to measure them; None leaves them out.
        tell: is told what is being measured.

    Raises:
        SettingsError: ``image_size`` is too small for the networks' strides.
        DataError: two of the rows contradict each other.

    >>> from aconite.lab import measure_table, published_table
    >>> measured = measure_table(published_table("activations"))
    >>> [counts.parameters for counts in measured.counts.values()][-2:]
    [1379600, 1686620]
    """
    if image_size < 32:
        raise SettingsError(f"images of {image_size} pixels are too small to count for: write at least 32")
    return MeasuredTable(
        table=table,
        image_size=image_size,
        counts={row: count(row, image_size) for row in table.rows},
        budgets=results_for(table, rows),
        cost_settings=costs,
        costs={} if costs is None else measure_table_costs(table, costs, tell),
    )
