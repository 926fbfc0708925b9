"""The optimiser and how its learning rate rises and falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from aconite.lab.runs.settings import RunSettings
from aconite.nn import param_groups

__all__ = ["optimiser", "rate_factor"]


def optimiser(network: nn.Module, settings: RunSettings) -> torch.optim.Optimizer:
    """SGD or AdamW. Learnt activations do not decay, and biases and norms only if ``decay`` is "all". In the heads of a
    network for segmentation every rate, that of activations too, is ``head_rate`` times what it is in the backbone.

    The first group is of the backbone's weights.
    """
    groups = param_groups(network, settings.weight_decay, lr=settings.lr, activation_lr=settings.activation_lr)
    if settings.decay == "all":
        for group in groups:
            if group["name"] == "biases and norms":
                group["weight_decay"] = settings.weight_decay
    if (factor := getattr(settings, "head_rate", 1.0)) != 1:
        whole: Any = network
        groups = _with_heads_apart(groups, whole.heads(), factor)
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr)


def _with_heads_apart(groups: list[dict[str, Any]], heads: Iterable[nn.Module], factor: float) -> list[dict[str, Any]]:
    """Each group in two, the heads' after all others."""
    own = {id(parameter) for head in heads for parameter in head.parameters()}
    parts: list[dict[str, Any]] = []
    for prefix, inside in (("", False), ("head: ", True)):
        for group in groups:
            if chosen := [each for each in group["params"] if (id(each) in own) == inside]:
                rate = group["lr"] * factor if inside else group["lr"]
                parts.append({**group, "name": prefix + group["name"], "params": chosen, "lr": rate})
    return parts


def rate_factor(settings: RunSettings, steps: int) -> Callable[[int], float]:
    """Step → share of the highest rate, in a training of ``steps`` steps.

    After the warm-up, with t = step / steps: linear 1 − t, cosine (1 + cos πt)/2, poly (1 − t)^0.9, steps 0.1^k with k
    the milestones passed, constant 1.

    >>> from aconite.lab.runs.settings import SegmentationSettings
    >>> factor = rate_factor(SegmentationSettings(data="a", steps=100, schedule="linear", warmup=10), 100)
    >>> [round(factor(step), 3) for step in (0, 5, 10, 50, 99)]
    [0.001, 0.475, 0.9, 0.5, 0.01]
    """
    falls: dict[str, Callable[[float], float]] = {
        "constant": lambda t: 1.0,
        "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
        "linear": lambda t: 1 - t,
        "poly": lambda t: (1 - t) ** 0.9,
        "steps": lambda t: 0.1 ** sum(t >= milestone for milestone in settings.milestones),
    }
    fall = falls[settings.schedule]

    def factor(step: int) -> float:
        height = fall(min(step / steps, 1.0))
        if step >= settings.warmup:
            return height
        return height * (settings.warmup_from + (1 - settings.warmup_from) * step / settings.warmup)

    return factor
