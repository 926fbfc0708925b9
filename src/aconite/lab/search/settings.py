"""What a search is told: one frozen record, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from aconite.errors import SettingsError
from aconite.lab.search.space import SPACES, Space
from aconite.lab.settings import CompareSettings

__all__ = ["BUDGET", "SearchSettings"]

_CHOICES = {
    "space": tuple(SPACES),
    "strategy": ("exhaustive", "random", "evolution", "tpe"),
    "pruner": ("none", "median", "halving"),
}
_LOWEST_COUNTS = {"depth": 1, "finalists": 1, "seeds": 1, "population": 2, "sample": 1}
BUDGET = ("trials", "minutes", "finalists", "seeds")
"""The settings that may differ when a search goes on: how much is done, not what."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that decides a search.

    Attributes:
        space: "core", the space that Swish was found in, or "maxout", smooth maxima of two functions.
        depth: how many core units are nested.
        strategy: "exhaustive" (every function once, in random order), "random", "evolution" (regularised evolution) or
            "tpe" (Optuna's tree-structured Parzen estimator).
        pruner: "none", or whether a poor candidate is given up early: "median" or "halving" (Optuna's).
        trials: how many functions are tried in all; None for no limit but the space and the time.
        minutes: for how long this call tries functions, finalists not included; None for no limit.
        finalists: how many of the best functions are trained again.
        seeds: how often each finalist is trained again.
        seed: of the order of candidates, and of their trainings, which share it.
        population: of the evolution: the latest functions that may have offspring.
        sample: of the evolution: how many are drawn, the best of which has it.
        data: "digits", "mnist5k", or a folder with ``train/<class>/*`` and ``test/<class>/*``.
        model: the child network.
        epochs: passes over the training images.
        batch_size: images in a step.
        lr: the learning rate at the start.
        weight_decay: for weights of more than one dimension only.
        label_smoothing: of the training loss.
        schedule: "cosine" or "linear".
        init: where p1 and p2 start: "paper", "swish" or "near-swish".
        image_size: side to which the images of a folder are resized and cropped; None keeps their own.
        device: "auto", "cpu" or "cuda".

    Raises:
        SettingsError: a value that is not allowed.
        UnknownNameError: a network that does not exist.

    >>> SearchSettings(space="maxout").child("x").model
    'resnet8'
    """

    space: str = "core"
    depth: int = 1
    strategy: str = "exhaustive"
    pruner: str = "none"
    trials: int | None = None
    minutes: float | None = None
    finalists: int = 10
    seeds: int = 5
    seed: int = 0
    population: int = 50
    sample: int = 10
    data: str = "digits"
    model: str = "resnet8"
    epochs: int = 4
    batch_size: int = 32
    lr: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    schedule: str = "cosine"
    init: Literal["paper", "swish", "near-swish"] = "near-swish"
    image_size: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(f"{name} is {value!r}: choose one of {', '.join(choices)}")
        counts = _LOWEST_COUNTS | ({} if self.trials is None else {"trials": 1})
        for name, lowest in counts.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < lowest:
                raise SettingsError(f"{name} is {value!r}: it must be a whole number, at least {lowest}")
        if self.minutes is not None and not (0 < self.minutes < math.inf):
            raise SettingsError(f"minutes is {self.minutes!r}: it must be a number above 0")
        if self.sample > self.population:
            raise SettingsError(f"sample is {self.sample}: it cannot be more than the population, {self.population}")
        self.make_space()
        self.child("relu")
        if self.strategy != "exhaustive" and self.trials is None and self.minutes is None:
            raise SettingsError(f"a search by {self.strategy} has no end of its own: give trials or minutes")
        if self.strategy == "exhaustive" and self.depth > 1:
            raise SettingsError(
                f"the space of depth {self.depth} has {self.make_space().size:,} members, too many to try each: "
                "choose the strategy random, evolution or tpe"
            )

    def make_space(self) -> Space:
        """The space, as searched."""
        return SPACES[self.space](self.depth)

    def child(self, activation: str) -> CompareSettings:
        """The settings of a child network's training."""
        shared = {field.name for field in fields(CompareSettings)} & {field.name for field in fields(self)}
        given: dict[str, Any] = {name: getattr(self, name) for name in shared}
        return CompareSettings(**given | {"activations": (activation,)})

    def recorded(self, data_name: str, content: str) -> dict[str, Any]:
        """The settings as rows and studies hold them: the data by name and content, the device as it was chosen."""
        device = self.child("relu").resolved_device
        return asdict(self) | {"data": data_name, "device": device, "content": content}
