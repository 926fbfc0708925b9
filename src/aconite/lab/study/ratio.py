"""The ratio of two means, with an interval that is honest about a denominator near 0."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

__all__ = ["Ratio", "ratio_of_means"]


class Ratio(NamedTuple):
    """A ratio and its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_of_means(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio | None:
    """mean(a) / mean(b) of pairs, with Fieller's interval (1954), or None where it has no bounds or b̄ is not positive.

    The interval holds every r for which Student's t does not tell the mean of a − r·b from 0:
    (ā − r·b̄)² ≤ t²(v_a − 2r·v_ab + r²·v_b), with the variances and covariance of the means. It is bounded
    where b̄ itself is told from 0.

    >>> [round(number, 3) for number in ratio_of_means([2.0, 2.2, 1.8, 2.1], [1.0, 1.1, 0.8, 1.2])]
    [1.976, 1.722, 2.394]
    >>> ratio_of_means([2.0, 4.0, 6.0], [1.0, -2.0, 3.0]) is None
    True
    """
    n, a, b = len(numerators), statistics.fmean(numerators), statistics.fmean(denominators)
    if n < 2 or b <= 0:
        return None
    t2 = float(special.stdtrit(n - 1, 0.975)) ** 2 / n
    lead = b**2 - t2 * statistics.variance(denominators)
    if lead <= 0:
        return None
    half = a * b - t2 * statistics.covariance(numerators, denominators)
    rest = a**2 - t2 * statistics.variance(numerators)
    root = math.sqrt(max(0.0, half**2 - lead * rest))  # 0 where each pair has the same ratio, but for rounding
    return Ratio(a / b, (half - root) / lead, (half + root) / lead)
