"""Differences between arms, paired by seed, and the rule by which a claim about one is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from aconite.lab.statistics import PairedDifference, holm, paired_difference

__all__ = ["Arm", "Contrast", "Errors", "Judged", "adjusted", "contrast"]

_LEVEL = 0.05


class Arm(NamedTuple):
    """What is trained with several seeds; ``init`` is None where the activation takes none, and an ``activation``
    beside which the network has squeeze-and-excitation is called "relu + SE", for instance.
    """

    network: str
    activation: str
    init: str | None

    @property
    def label(self) -> str:
        return self.activation + (f" ({self.init})" if self.init else "")


Errors = Mapping[Arm, Sequence[float]]  # by seed


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A difference that a claim says is below 0; ``p_adjusted`` is Holm's over its table.

    >>> Judged(difference=PairedDifference(-1.0, -1.5, -0.5, 0.001), p_adjusted=0.01).verdict
    'supported'
    """

    difference: PairedDifference
    p_adjusted: float | None = None

    @property
    def beyond_noise(self) -> bool:
        """Whether it is, at the 5 % level; with one seed nothing is."""
        return self.p_adjusted is not None and self.p_adjusted < _LEVEL

    @property
    def verdict(self) -> str:
        """What becomes of the claim: supported or contradicted where it is beyond noise, else not shown."""
        if not self.beyond_noise:
            return "not shown"
        return "supported" if self.difference.mean < 0 else "contradicted"


@dataclass(frozen=True, kw_only=True)
class Contrast(Judged):
    """The error of ``arm`` minus the error of ``other``, in points."""

    arm: Arm
    other: Arm


_Judged = TypeVar("_Judged", bound=Judged)


def contrast(errors: Errors, arm: Arm, other: Arm) -> Contrast:
    """Paired by seed, and not yet corrected."""
    return Contrast(arm=arm, other=other, difference=paired_difference(errors[arm], errors[other]))


def adjusted(judged: Sequence[_Judged]) -> list[_Judged]:
    """The same with Holm's correction over all of them; with one seed there are no p-values to correct."""
    p_values = [each.difference.p_value for each in judged if each.difference.p_value is not None]
    if not p_values:
        return list(judged)
    return [replace(each, p_adjusted=p_value) for each, p_value in zip(judged, holm(p_values), strict=True)]
