"""From rows to one line per activation: the table that a comparison ends with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from aconite.lab.rows import Row
from aconite.lab.statistics import PairedDifference, holm, paired_difference

__all__ = ["Line", "cells_of", "summarise"]


@dataclass(frozen=True)
class Line:
    """One activation: its error over the seeds in %, its difference to the baseline in points, its costs.

    ``difference`` is None for the baseline itself; ``p_adjusted`` is Holm's over all differences of the table.
    """

    activation: str
    mean: float
    deviation: float | None
    diverged: int
    difference: PairedDifference | None
    p_adjusted: float | None
    parameters: int
    multiply_adds: int
    saved_bytes: int
    step_ratio: Sequence[float]

    @property
    def beyond_noise(self) -> bool | None:
        """Whether it is, at the 5 % level after Holm's correction; None where that cannot be said."""
        return None if self.p_adjusted is None else self.p_adjusted < 0.05


def summarise(cells: Sequence[Row], costs: Sequence[Row], activations: Sequence[str], baseline: str) -> list[Line]:
    """A line for each activation, in the order given."""
    errors = {name: [row["error"] for row in cells_of(cells, name)] for name in activations}
    others = [name for name in activations if name != baseline]
    differences = {name: paired_difference(errors[name], errors[baseline]) for name in others}
    p_values = [difference.p_value for difference in differences.values() if difference.p_value is not None]
    adjusted = dict(zip(others, holm(p_values), strict=True)) if p_values else {}
    cost_of = {row["activation"]: row for row in costs}
    return [
        Line(
            activation=name,
            mean=statistics.fmean(errors[name]),
            deviation=statistics.stdev(errors[name]) if len(errors[name]) > 1 else None,
            diverged=sum(row["diverged"] for row in cells_of(cells, name)),
            difference=differences.get(name),
            p_adjusted=adjusted.get(name),
            parameters=cost_of[name]["parameters"],
            multiply_adds=cost_of[name]["multiply_adds"],
            saved_bytes=cost_of[name]["saved_bytes"],
            step_ratio=cost_of[name]["timing"]["step_ratio"],
        )
        for name in activations
    ]


def cells_of(cells: Sequence[Row], activation: str) -> list[Row]:
    """The rows of one activation, by seed."""
    return sorted((row for row in cells if row["activation"] == activation), key=lambda row: row["seed"])
