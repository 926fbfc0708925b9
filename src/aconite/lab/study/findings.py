"""What a study's rows say. Everything is paired by seed, and Holm's correction goes over the rows of each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aconite.lab.rows import Row
from aconite.lab.study.claim import GainRatio, claimed, gain_ratios
from aconite.lab.study.contrasts import Arm, Contrast, Errors
from aconite.lab.study.depth import Trend, over_depth, trends
from aconite.lab.study.inits import Proposal, compare_inits, propose_init
from aconite.lab.study.settings import StudySettings, has_init

__all__ = ["Findings", "arms_of", "find"]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that is concluded; ``errors`` and ``diverged`` are by arm."""

    errors: Errors
    diverged: Mapping[Arm, int]
    claim: Sequence[Contrast]
    ratios: Sequence[GainRatio]
    inits: Sequence[Contrast]
    proposal: Proposal | None
    depth: Sequence[Contrast]
    trends: Sequence[Trend]


def find(settings: StudySettings, rows: Sequence[Row]) -> Findings:
    """Concludes from the rows of all cells; rows of other kinds are passed over."""
    arms = arms_of(rows)
    errors = {arm: [row["error"] for row in found] for arm, found in arms.items()}
    return Findings(
        errors=errors,
        diverged={arm: sum(row["diverged"] for row in found) for arm, found in arms.items()},
        claim=claimed(settings, errors),
        ratios=gain_ratios(settings, errors),
        inits=compare_inits(settings, errors),
        proposal=propose_init(settings, errors),
        depth=over_depth(settings, errors),
        trends=trends(settings, errors),
    )


def arms_of(rows: Sequence[Row]) -> dict[Arm, list[Row]]:
    """The cells of each arm, by seed."""
    arms: dict[Arm, list[Row]] = {}
    for row in sorted((row for row in rows if row["kind"] == "cell"), key=lambda row: row["seed"]):
        init = row["settings"]["init"] if has_init(row["activation"]) else None
        name = row["activation"] + " + SE" * row["settings"].get("se", False)
        arms.setdefault(Arm(row["model"], name, init), []).append(row)
    return arms
