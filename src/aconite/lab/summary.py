"""From rows to one line per activation: the table that a comparison ends with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from aconite.lab.rows import Row
from aconite.lab.statistics import PairedDifference, holm, paired_difference

__all__ = ["ERROR", "Line", "Metric", "Standing", "cells_of", "standings", "summarise"]


@dataclass(frozen=True)
class Metric:
    """What trainings are compared by, written in %.

    Attributes:
        key: its name in a row.
        words: for people.
        higher_is_better: which way is better.
        percent: a row's value times this is in %.
    """

    key: str
    words: str
    higher_is_better: bool
    percent: float = 1.0

    def best(self, standings: Sequence[Standing]) -> Standing:
        """The one with the best mean."""
        return (max if self.higher_is_better else min)(standings, key=lambda standing: standing.mean)

    def better(self, difference: float) -> bool:
        """Whether a difference to the baseline is an improvement."""
        return (difference > 0) == self.higher_is_better


ERROR = Metric("error", "test error", higher_is_better=False)


@dataclass(frozen=True)
class Standing:
    """One activation: its metric over the seeds in %, and its difference to the baseline in points.

    ``difference`` is None for the baseline itself; ``p_adjusted`` is Holm's over all differences of the table.
    """

    activation: str
    mean: float
    deviation: float | None
    diverged: int
    difference: PairedDifference | None
    p_adjusted: float | None

    @property
    def beyond_noise(self) -> bool | None:
        """Whether it is, at the 5 % level after Holm's correction; None where that cannot be said."""
        return None if self.p_adjusted is None else self.p_adjusted < 0.05


@dataclass(frozen=True)
class Line(Standing):
    """A standing by the error, with what the activation costs."""

    parameters: int
    multiply_adds: int
    saved_bytes: int
    step_ratio: Sequence[float]


def standings(cells: Sequence[Row], activations: Sequence[str], baseline: str, metric: Metric) -> list[Standing]:
    """A standing for each activation, in the order given."""
    values = {name: [metric.percent * row[metric.key] for row in cells_of(cells, name)] for name in activations}
    others = [name for name in activations if name != baseline]
    differences = {name: paired_difference(values[name], values[baseline]) for name in others}
    p_values = [difference.p_value for difference in differences.values() if difference.p_value is not None]
    adjusted = dict(zip(others, holm(p_values), strict=True)) if p_values else {}
    return [
        Standing(
            activation=name,
            mean=statistics.fmean(values[name]),
            deviation=statistics.stdev(values[name]) if len(values[name]) > 1 else None,
            diverged=sum(row["diverged"] for row in cells_of(cells, name)),
            difference=differences.get(name),
            p_adjusted=adjusted.get(name),
        )
        for name in activations
    ]


def summarise(cells: Sequence[Row], costs: Sequence[Row], activations: Sequence[str], baseline: str) -> list[Line]:
    """A line for each activation, in the order given."""
    cost_of = {row["activation"]: row for row in costs}
    return [
        Line(
            **vars(standing),
            parameters=cost_of[standing.activation]["parameters"],
            multiply_adds=cost_of[standing.activation]["multiply_adds"],
            saved_bytes=cost_of[standing.activation]["saved_bytes"],
            step_ratio=cost_of[standing.activation]["timing"]["step_ratio"],
        )
        for standing in standings(cells, activations, baseline, ERROR)
    ]


def cells_of(cells: Sequence[Row], activation: str) -> list[Row]:
    """The rows of one activation, by seed."""
    return sorted((row for row in cells if row["activation"] == activation), key=lambda row: row["seed"])
