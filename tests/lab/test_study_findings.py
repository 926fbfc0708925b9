"""What is concluded from rows, held against SciPy and against a search over ratios."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from aconite.lab.statistics import PairedDifference
from aconite.lab.study import StudySettings, find, print_study, study_settings
from aconite.lab.study.contrasts import Judged
from aconite.lab.study.findings import Findings
from aconite.lab.study.page import study_page
from aconite.lab.study.ratio import ratio_of_means
from aconite.lab.study.tables import conclusions, study_tables

SETTINGS = study_settings(
    "cifar", quick=True, data="none", seeds=4, epochs=2, inits=("paper", "near-swish"), depths=("resnet8", "resnet14")
)
ERRORS = {
    ("resnet8", "relu", None): [30.0, 31.0, 30.5, 29.5],
    ("resnet8", "silu", None): [30.1, 30.7, 30.9, 29.3],
    ("resnet8", "swish", None): [29.0, 30.1, 29.4, 28.6],
    ("resnet8", "relu + SE", None): [29.6, 30.3, 30.4, 29.2],
    ("resnet8", "se-relu", None): [29.0, 29.9, 29.6, 28.5],
    ("resnet8", "acon-c", "paper"): [33.0, 34.2, 33.6, 32.3],
    ("resnet8", "acon-c", "near-swish"): [28.0, 30.4, 28.2, 29.1],
    ("resnet8", "meta-acon", "paper"): [33.5, 34.6, 33.8, 32.1],
    ("resnet8", "meta-acon", "near-swish"): [27.9, 28.8, 28.6, 27.6],
    ("resnet14", "relu", None): [28.0, 29.3, 28.4, 28.2],
    ("resnet14", "swish", None): [26.1, 27.0, 26.5, 25.8],
}


def rows_of(errors: dict[Any, list[float]], diverged: Any = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"kind": "cost", "model": "resnet8", "activation": "relu"}]
    for (model, activation, init), values in errors.items():
        for seed, error in enumerate(values):
            curve = [error + 20, error]
            rows.append(
                {
                    "kind": "cell", "data": "none", "model": model, "activation": activation.removesuffix(" + SE"),
                    "seed": seed, "error": error, "diverged": (model, activation, seed) == diverged,
                    "test_errors": curve, "train_errors": curve,
                    "settings": {"init": init or "paper"} | ({"se": True} if activation.endswith(" + SE") else {}),
                }
            )  # fmt: skip
    random.Random(0).shuffle(rows)  # the order of the rows must not matter
    return rows


@pytest.fixture(scope="module")
def found() -> Findings:
    return find(SETTINGS, rows_of(ERRORS))


def holm(p_values: list[float]) -> list[float]:
    """Step-down as a definition: p̃(i) is the largest (m − j)·p(j) over the j up to i, cut at 1."""
    ranked = sorted(p_values)
    return [
        max(min(1.0, (len(ranked) - j) * ranked[j]) for j in range(ranked.index(p_value) + 1)) for p_value in p_values
    ]


def p_of(arm: Any, other: Any) -> float:
    return float(stats.ttest_rel(ERRORS[arm], ERRORS[other]).pvalue)


def test_every_pair_of_the_claim(found: Findings) -> None:
    asked = [(tuple(each.arm), tuple(each.other)) for each in found.claim]
    both = [(name, init) for init in ("paper", "near-swish") for name in ("meta-acon", "acon-c")]
    wanted = {(("resnet8", "swish", None), ("resnet8", "relu", None))}
    for name, init in both:
        for other in ("swish", "relu", *(["se-relu", "relu + SE"] if name == "meta-acon" else [])):
            wanted.add((("resnet8", name, init), ("resnet8", other, None)))
        if name == "meta-acon":
            wanted.add((("resnet8", name, init), ("resnet8", "acon-c", init)))
    assert len(asked) == len(wanted) == 15
    assert set(asked) == wanted
    p_values = [p_of(*pair) for pair in asked]
    for each, pair, raw, corrected in zip(found.claim, asked, p_values, holm(p_values), strict=True):
        arm, other = (np.array(ERRORS[side]) for side in pair)
        interval = stats.ttest_rel(arm, other).confidence_interval(0.95)
        assert each.difference.mean == pytest.approx((arm - other).mean())
        assert (each.difference.low, each.difference.high) == pytest.approx((interval.low, interval.high))
        assert each.difference.p_value == pytest.approx(raw)
        assert each.p_adjusted == pytest.approx(corrected)
        told = "not shown" if corrected >= 0.05 else "supported" if (arm - other).mean() < 0 else "contradicted"
        assert each.verdict == told
    assert {each.verdict for each in found.claim} == {"supported", "not shown", "contradicted"}


@pytest.mark.parametrize(
    ("mean", "p_adjusted", "told"),
    [
        (-1.0, 0.049, "supported"),
        (-1.0, 0.05, "not shown"),
        (1.0, 0.001, "contradicted"),
        (1.0, 0.3, "not shown"),
        (-9.0, None, "not shown"),
    ],
)
def test_the_rule_of_a_verdict(mean: float, p_adjusted: float | None, told: str) -> None:
    difference = PairedDifference(mean, mean - 1, mean + 1, p_adjusted)
    assert Judged(difference=difference, p_adjusted=p_adjusted).verdict == told


def accepted(numerators: Any, denominators: Any, ratio: float) -> bool:
    """Whether a paired t-test at 5 % does not tell numerators from ratio times denominators."""
    return bool(stats.ttest_rel(numerators, ratio * np.array(denominators)).pvalue > 0.05)


def test_the_interval_of_a_ratio_holds_what_the_t_test_accepts() -> None:
    draws = np.random.default_rng(3)
    told = 0
    for _ in range(50):
        rivals = draws.normal(1.0, 0.5, 5)
        gains = draws.normal(2.0, 0.6, 5) + 0.5 * rivals
        ratio = ratio_of_means(list(gains), list(rivals))
        far = [accepted(gains, rivals, sign * 1e7) for sign in (-1, 1)]
        assert (ratio is None) == (any(far) or rivals.mean() <= 0)
        if ratio is not None:
            told += 1
            assert ratio.value == pytest.approx(gains.mean() / rivals.mean())
            margin = 1e-6 * (ratio.high - ratio.low)
            for bound, inside in ((ratio.low, margin), (ratio.high, -margin)):
                assert accepted(gains, rivals, bound + inside)
                assert not accepted(gains, rivals, bound - inside)
    assert 10 < told < 50


def test_a_ratio_that_is_the_same_at_every_seed() -> None:
    assert ratio_of_means([2.0, 2.0], [1.0, 1.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("gains", "rivals"),
    [
        ([2.0], [1.0]),
        ([2.0, 2.1], [-1.0, -1.0]),
        ([2.0, 4.0, 6.0], [1.0, 2.0, 3.5]),  # three seeds that differ this much do not tell the denominator from 0
    ],
)
def test_ratios_that_are_not_determined(gains: list[float], rivals: list[float]) -> None:
    assert ratio_of_means(gains, rivals) is None


def test_meta_acons_gain_beside_ses(found: Findings) -> None:
    assert [(each.rival.activation, each.arm.init) for each in found.ratios] == [
        ("relu + SE", "paper"), ("relu + SE", "near-swish"), ("se-relu", "paper"), ("se-relu", "near-swish"),
    ]  # fmt: skip
    *_, paper, near = found.ratios
    assert near.gain.mean == pytest.approx(30.25 - 28.225)
    assert near.rival_gain.mean == pytest.approx(30.25 - 29.25)
    assert near.ratio is not None
    assert near.ratio.value == pytest.approx(2.025)
    assert near.verdict == "supported"
    assert paper.verdict == "contradicted"  # it lost where SE gained


def test_the_proposed_init(found: Findings) -> None:
    proposal = found.proposal
    assert proposal is not None
    by_seed = {
        init: np.mean([ERRORS["resnet8", name, init] for name in ("acon-c", "meta-acon")], axis=0)
        for init in ("paper", "near-swish")
    }
    judged = proposal.judged["near-swish"]
    raw = stats.ttest_rel(by_seed["near-swish"], by_seed["paper"])
    assert judged.difference.mean == pytest.approx((by_seed["near-swish"] - by_seed["paper"]).mean())
    assert judged.p_adjusted == pytest.approx(raw.pvalue)
    assert proposal.means == pytest.approx({init: values.mean() for init, values in by_seed.items()})
    assert (proposal.lowest, proposal.init) == ("near-swish", "near-swish")


def with_near_swish(meta: list[float], acon: list[float]) -> Findings:
    changed = {("resnet8", "meta-acon", "near-swish"): meta, ("resnet8", "acon-c", "near-swish"): acon}
    return find(SETTINGS, rows_of(ERRORS | changed))


def test_the_reference_stays_where_nothing_is_told() -> None:
    noisy = with_near_swish([20.0, 45.0, 25.0, 40.0], [20.0, 45.0, 25.0, 40.0]).proposal
    assert noisy is not None
    assert (noisy.lowest, noisy.init) == ("near-swish", "paper")
    worse = with_near_swish([40.0, 41.0, 40.2, 40.1], [40.0, 41.1, 40.3, 40.0]).proposal
    assert worse is not None
    assert (worse.lowest, worse.init) == ("paper", "paper")


def test_the_series_over_depth(found: Findings) -> None:
    assert [(each.arm.network, each.difference.mean) for each in found.depth] == [
        ("resnet8", pytest.approx(-0.975)),
        ("resnet14", pytest.approx(-2.125)),
    ]
    gains = [
        [error - base for error, base in zip(ERRORS[name, "swish", None], ERRORS[name, "relu", None], strict=True)]
        for name in ("resnet8", "resnet14")
    ]
    slopes = [np.polyfit(np.log2([8, 14]), seed, 1)[0] for seed in zip(*gains, strict=True)]
    (trend,) = found.trends
    assert trend.difference.mean == pytest.approx(np.mean(slopes))
    assert trend.difference.p_value == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)
    assert trend.verdict == "supported"


def test_one_seed_concludes_nothing() -> None:
    settings = study_settings("cifar", quick=True, data="none", seeds=1, inits=SETTINGS.inits, depths=("resnet8",))
    one = find(settings, rows_of({arm: values[:1] for arm, values in ERRORS.items()}))
    assert {each.verdict for each in one.claim} == {"not shown"}
    assert {each.verdict for each in one.ratios} == {"not determined"}
    assert one.trends == []  # one depth has no slope


def test_arms_that_are_missing_are_not_asked_about() -> None:
    settings = study_settings(
        "cifar", quick=True, data="none", inits=SETTINGS.inits, activations=("relu", "acon-c"), depths=()
    )
    few = find(settings, rows_of({arm: values for arm, values in ERRORS.items() if arm[1] in ("relu", "acon-c")}))
    assert {(each.arm.activation, each.other.activation) for each in few.claim} == {("acon-c", "relu")}
    assert few.ratios == few.depth == []


def test_tables_and_page_say_the_same(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    print_study(SETTINGS, found)
    printed = " ".join(capsys.readouterr().out.split())
    html = study_page(SETTINGS, found, [row for row in rows_of(ERRORS) if row["kind"] == "cell"]).render()
    for caption, (heads, rows, _) in study_tables(SETTINGS, found).items():
        assert caption in printed
        assert caption.replace("'", "&#39;") in html
        assert all(len(row) == len(heads) for row in rows)
    for sentence in conclusions(found):
        assert sentence in printed
    assert "Default init proposed: near-swish" in printed
    assert html.count("<svg") == 6  # the claim, the inits, two over depth, the curves of two inits


def test_a_diverged_arm_is_told() -> None:
    findings = find(SETTINGS, rows_of(ERRORS, diverged=("resnet14", "swish", 2)))
    assert "resnet14 swish: 1" in study_tables(SETTINGS, findings)["Test error"][2]


def test_settings_are_a_record() -> None:
    assert isinstance(SETTINGS, StudySettings)
    assert SETTINGS.cells == 4 * (6 + 2 + 2 + 1)
