"""How the next candidate is chosen, as samplers of Optuna."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import SharedStudy
from aconite.lab.search.space import Candidate, Space

__all__ = ["Chooser", "Exhausted", "pruner_for", "sampler_for"]

_ATTEMPTS = 1000  # draws in a row that give nothing new: then the space is taken for searched


class Exhausted(Exception):
    """There is no function left to try."""


def sampler_for(settings: SearchSettings, space: Space) -> BaseSampler:
    """The sampler of the settings' strategy."""
    match settings.strategy:
        case "exhaustive":
            return Exhaustive(space, settings.seed)
        case "random":
            return Random(space)
        case "evolution":
            return Evolution(space, settings.population, settings.sample)
        case _:
            return TPESampler(constant_liar=True, multivariate=True)


def pruner_for(settings: SearchSettings) -> optuna.pruners.BasePruner:
    """Optuna's pruner of this name."""
    match settings.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=20)
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner()
        case _:
            return optuna.pruners.NopPruner()


class Chooser(BaseSampler):
    """Chooses all genes at once, in `prepare`; Optuna then asks for them one by one."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.chosen: Mapping[str, str] = {}
        self.draws = random.Random()  # of its own in each process: two must not try the same in the same order

    @abstractmethod
    def choose(self, shared: SharedStudy, taken: Mapping[str, FrozenTrial]) -> Candidate:
        """A candidate that is not taken; raises `Exhausted` where there is none."""

    def prepare(self, shared: SharedStudy) -> None:
        """Choose for the next trial. Raises `Exhausted`; not in ``before_trial``, when the trial is there already."""
        self.chosen = dict(self.choose(shared, shared.taken()).choices)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.chosen[param_name]

    def _any_new(self, taken: Mapping[str, FrozenTrial]) -> Candidate:
        for _ in range(_ATTEMPTS):
            candidate = self._new(
                {gene: self.draws.choice(options) for gene, options in self.space.genes.items()}, taken
            )
            if candidate is not None:
                return candidate
        raise Exhausted

    def _new(self, choices: Mapping[str, str], taken: Mapping[str, FrozenTrial]) -> Candidate | None:
        candidate = self.space.candidate(choices)
        return None if candidate is None or candidate.key in taken else candidate


class Exhaustive(Chooser):
    """Every function once, in an order drawn from the seed: a part of the space is a fair sample of it."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space)
        self.order = list(space.candidates)
        random.Random(seed).shuffle(self.order)

    def choose(self, shared: SharedStudy, taken: Mapping[str, FrozenTrial]) -> Candidate:
        left = (candidate for candidate in self.order if candidate.key not in taken)
        if (candidate := next(left, None)) is None:
            raise Exhausted
        return candidate


class Random(Chooser):
    """A choice for each gene, uniformly, until the function is new."""

    def choose(self, shared: SharedStudy, taken: Mapping[str, FrozenTrial]) -> Candidate:
        return self._any_new(taken)


class Evolution(Chooser):
    """Regularised evolution (Real et al. 2019): of a few drawn from the latest, the best has an offspring.

    Only the latest ``population`` functions live, whatever they came to, so that a lucky one does not stay for ever.
    """

    def __init__(self, space: Space, population: int, sample: int) -> None:
        super().__init__(space)
        self.population, self.sample = population, sample

    def choose(self, shared: SharedStudy, taken: Mapping[str, FrozenTrial]) -> Candidate:
        living = [trial for trial in shared.counted() if trial.state == TrialState.COMPLETE][-self.population :]
        if len(living) < self.population:
            return self._any_new(taken)
        parent = min(self.draws.sample(living, self.sample), key=lambda trial: trial.value or 0.0)
        for _ in range(_ATTEMPTS):
            if (child := self._new(self._mutated(parent.params), taken)) is not None:
                return child
        return self._any_new(taken)

    def _mutated(self, choices: Mapping[str, str]) -> Mapping[str, str]:
        gene = self.draws.choice(list(self.space.genes))
        others: Sequence[str] = [option for option in self.space.genes[gene] if option != choices[gene]]
        return {**choices, gene: self.draws.choice(others)}
