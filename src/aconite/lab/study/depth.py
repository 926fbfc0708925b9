"""The series over depth: whether an activation's gain grows as networks of one family get deeper."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from aconite.lab.statistics import paired_difference
from aconite.lab.study.contrasts import Arm, Contrast, Errors, Judged, adjusted, contrast
from aconite.lab.study.settings import StudySettings, has_init
from aconite.models import create

__all__ = ["Trend", "over_depth", "trends", "weight_layers"]


@dataclass(frozen=True, kw_only=True)
class Trend(Judged):
    """By how many points the difference changes with each doubling of the layers; below 0 the gain grows."""

    activation: str
    baseline: str


def over_depth(settings: StudySettings, errors: Errors) -> list[Contrast]:
    """Each activation of the series against the first, network by network."""
    return adjusted(
        [contrast(errors, *pair) for name in settings.depth_activations[1:] for pair in _pairs(settings, name)]
    )


def trends(settings: StudySettings, errors: Errors) -> list[Trend]:
    """A slope for each seed, by least squares over the logarithm of the layers; then Student's t over the seeds."""
    at = [math.log2(weight_layers(network)) for network in settings.depths]
    if len(set(at)) < 2:
        return []
    found = []
    for name in settings.depth_activations[1:]:
        pairs = [(errors[arm], errors[other]) for arm, other in _pairs(settings, name)]
        slopes, base_slopes = (_slopes(at, series) for series in zip(*pairs, strict=True))
        difference = paired_difference(slopes, base_slopes)  # least squares is linear: the slope of the differences
        found.append(Trend(activation=name, baseline=settings.depth_activations[0], difference=difference))
    return adjusted(found)


def _slopes(at: Sequence[float], series: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.linear_regression(at, seed).slope for seed in zip(*series, strict=True)]


def _pairs(settings: StudySettings, name: str) -> list[tuple[Arm, Arm]]:
    names = name, settings.depth_activations[0]
    inits = [settings.inits[0] if has_init(each) else None for each in names]
    return [(Arm(network, names[0], inits[0]), Arm(network, names[1], inits[1])) for network in settings.depths]


def weight_layers(network: str) -> int:
    """How many convolutions and linear layers a network has, which CIFAR's ResNets are named after.

    >>> weight_layers("resnet20")
    20
    """
    return sum(isinstance(module, nn.Conv2d | nn.Linear) for module in create(network).modules())
