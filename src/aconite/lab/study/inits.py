"""Which init the learnt activations should start from: each of them, and a proposal by a fixed rule."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from aconite.lab.statistics import paired_difference
from aconite.lab.study.contrasts import Arm, Contrast, Errors, Judged, adjusted, contrast
from aconite.lab.study.settings import StudySettings

__all__ = ["Proposal", "compare_inits", "propose_init"]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The init to start from. ``means``: the error over networks, activations and seeds, by init; ``judged``: each
    other init's error minus the reference's.
    """

    reference: str
    means: Mapping[str, float]
    judged: Mapping[str, Judged]

    @property
    def lowest(self) -> str:
        return min(self.means, key=self.means.__getitem__)

    @property
    def init(self) -> str:
        """The one of the lowest mean if it is below the reference's beyond noise, else the reference."""
        found = self.judged.get(self.lowest)
        return self.lowest if found and found.verdict == "supported" else self.reference


def compare_inits(settings: StudySettings, errors: Errors) -> list[Contrast]:
    """Each learnt activation in each network: another init against the reference."""
    reference = _reference(settings)
    return adjusted(
        [
            contrast(errors, arm, arm._replace(init=reference))
            for init in settings.inits
            if init != reference
            for arm in _learnt(settings, errors, init)
        ]
    )


def propose_init(settings: StudySettings, errors: Errors) -> Proposal | None:
    """None where nothing was learnt or one init alone was tried. Each network and activation has the same weight."""
    reference = _reference(settings)
    if len(settings.inits) < 2 or not _learnt(settings, errors, reference):
        return None
    by_seed = {
        init: [
            statistics.fmean(seed)
            for seed in zip(*(errors[arm] for arm in _learnt(settings, errors, init)), strict=True)
        ]
        for init in settings.inits
    }
    others = [init for init in settings.inits if init != reference]
    judged = [Judged(difference=paired_difference(by_seed[init], by_seed[reference])) for init in others]
    return Proposal(
        reference=reference,
        means={init: statistics.fmean(values) for init, values in by_seed.items()},
        judged=dict(zip(others, adjusted(judged), strict=True)),
    )


def _reference(settings: StudySettings) -> str:
    """The constructors' default, where it was tried."""
    return "paper" if "paper" in settings.inits else settings.inits[0]


def _learnt(settings: StudySettings, errors: Errors, init: str) -> list[Arm]:
    arms = (Arm(network, name, init) for network in settings.networks for name in settings.shared.activations)
    return [arm for arm in arms if arm in errors]
