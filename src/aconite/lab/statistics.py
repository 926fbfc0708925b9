"""What a handful of seeds can say: paired differences, their interval, and a correction for asking often."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

__all__ = ["PairedDifference", "holm", "paired_difference"]


@dataclass(frozen=True)
class PairedDifference:
    """The mean of differences, its 95 % interval and two-sided p-value; None where one seed allows neither."""

    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """values − baseline, paired in their order (by seed): mean ± t(0.975, n − 1)·s/√n, Student's t.

    >>> difference = paired_difference([3.0, 4.0, 5.0], [1.0, 1.0, 1.0])
    >>> difference.mean, round(difference.low, 3), round(difference.high, 3), round(difference.p_value, 4)
    (3.0, 0.516, 5.484, 0.0351)
    >>> paired_difference([3.0], [1.0])
    PairedDifference(mean=2.0, low=None, high=None, p_value=None)
    """
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    mean, n = statistics.fmean(differences), len(differences)
    if n < 2:
        return PairedDifference(mean, None, None, None)
    error = statistics.stdev(differences) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, 0.975)) * error
    if error == 0:  # every seed differs by the same amount
        return PairedDifference(mean, mean, mean, float(mean == 0))
    p_value = 2 * float(special.stdtr(n - 1, -abs(mean) / error))
    return PairedDifference(mean, mean - half, mean + half, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the adjusted p-values, in the order given.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
