"""What a search comes to: a line for each finalist, and where the functions with each building block stand."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from aconite.errors import AconiteError
from aconite.lab.costs import Cost
from aconite.lab.search.rows import Row
from aconite.lab.statistics import PairedDifference, holm, paired_difference
from aconite.nn import expression

__all__ = ["Block", "Finalist", "blocks", "leaderboard", "mean_interval"]


@dataclass(frozen=True)
class Finalist:
    """One function: the validation error that chose it, that of new seeds, and their test error, all in %.

    ``chosen_by`` is None for a baseline. ``interval`` is half the width of the mean's 95 % interval.
    """

    text: str
    name: str | None
    chosen_by: float | None
    validation: float
    test: float
    interval: float | None
    diverged: int
    difference: PairedDifference | None
    p_adjusted: float | None
    cost: Cost


@dataclass(frozen=True)
class Block:
    """A building block: where its functions stand among all that were tried, from 0 (best) to 100 (worst)."""

    gene: str
    text: str
    count: int
    failed: int
    rank: float
    interval: float | None


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and half the width of its 95 % interval by Student's t; one value has none.

    >>> mean_interval([1.0, 2.0, 3.0])[0], round(mean_interval([1.0, 2.0, 3.0])[1], 3)
    (2.0, 2.484)
    """
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return mean, None
    return mean, float(special.stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)


def leaderboard(rows: Sequence[Row], costs: Mapping[str, Cost], baseline: str) -> list[Finalist]:
    """A line for each retrained activation, the lowest test error first."""
    chosen = {row["expression"]: row["error"] for row in rows if row["kind"] == "candidate"}
    trained: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "finalist":
            trained[row["activation"]].append(row)
    errors = {name: [row["error"] for row in sorted(of, key=lambda row: row["seed"])] for name, of in trained.items()}
    others = [name for name in trained if name != baseline]
    differences = {name: paired_difference(errors[name], errors[baseline]) for name in others}
    p_values = [difference.p_value for difference in differences.values() if difference.p_value is not None]
    adjusted = dict(zip(others, holm(p_values), strict=True)) if p_values else {}
    lines = []
    for name, of in trained.items():
        mean, interval = mean_interval(errors[name])
        lines.append(
            Finalist(
                text=name,
                name=known(name),
                chosen_by=chosen.get(name),
                validation=statistics.fmean(row["validation_error"] for row in of),
                test=mean,
                interval=interval,
                diverged=sum(row["diverged"] for row in of),
                difference=differences.get(name),
                p_adjusted=adjusted.get(name),
                cost=costs[name],
            )
        )
    return sorted(lines, key=lambda line: line.test)


def known(text: str) -> str | None:
    """The usual name of a formula; None for a name itself, and for a formula without one."""
    try:
        return expression.known_name(expression.parse(text))
    except AconiteError:  # the name of a baseline
        return None


def blocks(rows: Sequence[Row]) -> list[Block]:
    """Each building block with the mean rank of its functions; those that failed rank last, in no order."""
    candidates = [row for row in rows if row["kind"] == "candidate" and row["state"] != "pruned"]
    errors = sorted(row["error"] for row in candidates if row["error"] is not None)
    last = (len(errors) + len(candidates) - 1) / 2  # the mean of the failed ones' places
    places: dict[float, float] = {}
    for error in set(errors):
        first = errors.index(error)
        places[error] = first + (errors.count(error) - 1) / 2
    members: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in candidates:
        for gene, option in row["choices"].items():
            members[gene.rstrip(" 0123456789"), option].append(row)
    found = []
    for (gene, option), of in members.items():
        ranks = [last if row["error"] is None else places[row["error"]] for row in of]
        mean, interval = mean_interval([100 * rank / max(1, len(candidates) - 1) for rank in ranks])
        found.append(Block(gene, option, len(of), sum(row["error"] is None for row in of), mean, interval))
    return sorted(found, key=lambda block: (block.gene, block.rank))
