"""A study's findings in words and columns, for the terminal and for the report alike."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from aconite.lab.study.contrasts import Contrast, Judged
from aconite.lab.study.depth import weight_layers
from aconite.lab.study.findings import Findings
from aconite.lab.study.inits import Proposal
from aconite.lab.study.settings import StudySettings
from aconite.lab.table import Columns, difference_text, print_columns

__all__ = ["conclusions", "print_study", "study_tables"]

_Row = list[str | float | None]

_INTERVAL = (
    "Differences in points of error, paired by seed, with their 95 % interval by Student's t; negative is better."
)


def print_study(settings: StudySettings, findings: Findings) -> None:
    """Prints every table, each with its note, and the conclusions."""
    for caption, columns in study_tables(settings, findings).items():
        print_columns(columns, caption)
    print("\n" + "\n".join(conclusions(findings)))


def study_tables(settings: StudySettings, findings: Findings) -> dict[str, Columns]:
    """Caption → table, those that have rows."""
    tables = {
        "Test error": _errors(settings, findings),
        "The claim, pair by pair": _claim(findings.claim),
        "Meta-ACON's gain and SE's": _ratios(findings),
        "The init of learnt activations": _inits(findings),
        "Over depth": _depth(findings),
    }
    return {caption: columns for caption, columns in tables.items() if columns[1]}


def conclusions(findings: Findings) -> list[str]:
    """A sentence for each question."""
    return [*_chain_said(findings), *_ratio_said(findings), *_init_said(findings.proposal), *_depth_said(findings)]


def _errors(settings: StudySettings, findings: Findings) -> Columns:
    heads = ["network", "activation", "init", "test error %"]
    rows: list[_Row] = []
    for arm, errors in findings.errors.items():
        spread = "" if len(errors) < 2 else f" ± {statistics.stdev(errors):.2f}"
        rows.append([arm.network, arm.activation, arm.init, f"{statistics.fmean(errors):.2f}{spread}"])
    seeds = settings.shared.seeds
    note = f"After the last of {settings.shared.epochs} epochs, mean"
    note += f" ± standard deviation over {seeds} seeds." if seeds > 1 else ": one seed, nothing is told from noise."
    lost = [f"{arm.network} {arm.label}: {count}" for arm, count in findings.diverged.items() if count]
    if lost:
        note += f" Diverged, and counted with the error of guessing: {', '.join(lost)}."
    return heads, rows, note


def _claim(claim: Sequence[Contrast]) -> Columns:
    heads = ["network", "init", "better", "than", "difference", "p (Holm)", "verdict"]
    rows: list[_Row] = []
    for each in claim:  # a pair of learnt ones has the same init
        names = each.arm.network, each.arm.init, each.arm.activation, each.other.activation
        rows.append([*names, *_numbers(each), each.verdict])
    note = (
        f"{_INTERVAL} supported or contradicted: p < 0.05 after Holm's correction over these {len(rows)} pairs; not "
        "shown: this study cannot tell, which does not mean that there is no difference."
    )
    return heads, rows, note


def _ratios(findings: Findings) -> Columns:
    heads = ["network", "init", "Meta-ACON's gain", "SE", "SE's gain", "ratio", "about twice?"]
    rows: list[_Row] = []
    for each in findings.ratios:
        ratio = None if each.ratio is None else "{:.2f} ({:.2f} … {:.2f})".format(*each.ratio)
        gains = difference_text(each.gain), each.rival.label, difference_text(each.rival_gain)
        rows.append([each.arm.network, each.arm.init, *gains, ratio, each.verdict])
    note = (
        "Gains over ReLU in points with their 95 % interval, uncorrected; the ratio with Fieller's. not determined: "
        "SE's gain is not told from 0, or is none. contradicted: the interval leaves out 2. supported: it holds 2 and "
        "leaves out 1."
    )
    return heads, rows, note


def _inits(findings: Findings) -> Columns:
    heads = ["network", "activation", "init", "against", "difference", "p (Holm)", "beyond noise"]
    rows: list[_Row] = []
    for each in findings.inits:
        names = each.arm.network, each.arm.activation, each.arm.init, each.other.init
        rows.append([*names, *_numbers(each), _yes(each)])
    if findings.proposal is not None:
        for init, judged in findings.proposal.judged.items():
            rows.append(["all", "all", init, findings.proposal.reference, *_numbers(judged), _yes(judged)])
    return heads, rows, f"{_INTERVAL} all: the mean over networks and activations, with a correction of its own."


def _depth(findings: Findings) -> Columns:
    heads = ["network", "layers", "better", "than", "difference", "p (Holm)", "verdict"]
    rows: list[_Row] = []
    for each in findings.depth:
        names = each.arm.network, weight_layers(each.arm.network), each.arm.label, each.other.label
        rows.append([*names, *_numbers(each), each.verdict])
    for trend in findings.trends:
        rows.append(["per doubling", None, trend.activation, trend.baseline, *_numbers(trend), trend.verdict])
    note = f"{_INTERVAL} Per doubling: what doubling the layers adds to the difference; negative: the gain grows."
    return heads, rows, note


def _numbers(each: Judged) -> tuple[str, str | None]:
    return difference_text(each.difference), None if each.p_adjusted is None else f"{each.p_adjusted:.3f}"


def _yes(each: Judged) -> str | None:
    return None if each.p_adjusted is None else "yes" if each.beyond_noise else "no"


def _chain_said(findings: Findings) -> Iterator[str]:
    counts = Counter(each.verdict for each in findings.claim)
    if findings.claim:
        told = ", ".join(f"{counts[word]} {word}" for word in ("supported", "not shown", "contradicted"))
        yield f"Meta-ACON > ACON-C > Swish > ReLU, pair by pair: {told}."


def _ratio_said(findings: Findings) -> Iterator[str]:
    for each in findings.ratios:
        yield f"{each.arm.label} gains about twice as much as {each.rival.label} in {each.arm.network}: {each.verdict}."


def _init_said(proposal: Proposal | None) -> Iterator[str]:
    if proposal is None:
        return
    means = ", ".join(f"{init} {mean:.2f} %" for init, mean in proposal.means.items())
    if proposal.init != proposal.reference:
        why = f"its mean is the lowest, and below {proposal.reference}'s beyond noise"
    elif proposal.lowest == proposal.reference:
        why = "its mean is the lowest"
    else:
        why = f"{proposal.lowest} has the lowest mean, but not beyond noise"
    yield f"Default init proposed: {proposal.init}; {why} ({means})."


def _depth_said(findings: Findings) -> Iterator[str]:
    for trend in findings.trends:
        yield f"{trend.activation}'s gain over {trend.baseline} grows with depth: {trend.verdict}."
