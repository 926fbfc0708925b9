"""The claim "Meta-ACON > ACON-C > Swish > ReLU, with about twice SE's gain" as pairs and as a ratio."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from aconite.lab.statistics import PairedDifference, paired_difference
from aconite.lab.study.contrasts import Arm, Contrast, Errors, adjusted, contrast
from aconite.lab.study.ratio import Ratio, ratio_of_means
from aconite.lab.study.settings import StudySettings, has_init

__all__ = ["GainRatio", "claimed", "gain_ratios"]

_CHAIN = ("meta-acon", "acon-c", "swish", "relu")  # from the lowest claimed error to the highest
_META, _RELU = _CHAIN[0], _CHAIN[-1]
_RIVALS = ("relu + SE", "se-relu")  # at the end of each block, as in the paper, and in each activation's place


@dataclass(frozen=True, kw_only=True)
class GainRatio:
    """Gains over ReLU in points, Meta-ACON's and SE's, and their ratio, None where SE's is not told from 0."""

    arm: Arm
    rival: Arm
    gain: PairedDifference
    rival_gain: PairedDifference
    ratio: Ratio | None

    @property
    def verdict(self) -> str:
        """On "about twice": contradicted if the interval leaves out 2, supported if it then leaves out 1 as well."""
        if self.ratio is None:
            return "not determined"
        if not self.ratio.low <= 2 <= self.ratio.high:
            return "contradicted"
        return "supported" if self.ratio.low > 1 else "not shown"


def claimed(settings: StudySettings, errors: Errors) -> list[Contrast]:
    """Every ordered pair of the chain, and Meta-ACON against SE, in each network; learnt ones with the same init."""
    pairs = [*itertools.combinations(_CHAIN, 2), *((_META, rival) for rival in _RIVALS)]
    return adjusted(
        [
            contrast(errors, arm, other)
            for network in settings.networks
            for better, worse in pairs
            for arm in _arms(settings, network, better)
            for other in _arms(settings, network, worse)
            if arm in errors and other in errors and (other.init is None or arm.init == other.init)
        ]
    )


def gain_ratios(settings: StudySettings, errors: Errors) -> list[GainRatio]:
    """One for each network, form of SE and init of Meta-ACON, where they and ReLU were trained."""
    found = []
    for network, name in itertools.product(settings.networks, _RIVALS):
        relu, rival = Arm(network, _RELU, None), Arm(network, name, None)
        for arm in _arms(settings, network, _META):
            if {arm, relu, rival} <= errors.keys():
                gains, rivals = ([r - e for r, e in zip(errors[relu], errors[a], strict=True)] for a in (arm, rival))
                found.append(
                    GainRatio(
                        arm=arm,
                        rival=rival,
                        gain=paired_difference(errors[relu], errors[arm]),
                        rival_gain=paired_difference(errors[relu], errors[rival]),
                        ratio=ratio_of_means(gains, rivals),
                    )
                )
    return found


def _arms(settings: StudySettings, network: str, name: str) -> list[Arm]:
    learnt = name not in _RIVALS and has_init(name)
    return [Arm(network, name, init) for init in (settings.inits if learnt else (None,))]
