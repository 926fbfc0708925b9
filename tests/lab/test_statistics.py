from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aconite.lab.statistics import holm, paired_difference

errors = st.floats(0, 100, allow_subnormal=False).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(errors, errors), min_size=2, max_size=12))
def test_paired_difference_is_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    values, baseline = zip(*pairs, strict=True)
    spread = {round(a - b, 9) for a, b in pairs}
    if len(spread) == 1:
        return
    ours, theirs = paired_difference(values, baseline), stats.ttest_rel(values, baseline)
    interval = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert (ours.low, ours.high) == (pytest.approx(interval.low, abs=1e-6), pytest.approx(interval.high, abs=1e-6))


def test_the_same_difference_at_every_seed() -> None:
    same, other = paired_difference([2.0, 3.0], [2.0, 3.0]), paired_difference([2.5, 3.5], [2.0, 3.0])
    assert (same.mean, same.low, same.p_value) == (0.0, 0.0, 1.0)
    assert (other.mean, other.high, other.p_value) == (0.5, 0.5, 0.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    rejected, count = set(), len(p_values)
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        if (count - rank) * p_values[index] > level:
            break
        rejected.add(index)
    assert {index for index in range(count) if adjusted[index] <= level} == rejected


def test_holm_does_not_depend_on_the_order() -> None:
    p_values = [0.001, 0.2, 0.04, 0.012]
    expected = dict(zip(p_values, holm(p_values), strict=True))
    for order in itertools.permutations(p_values):
        assert holm(order) == [expected[p] for p in order]
