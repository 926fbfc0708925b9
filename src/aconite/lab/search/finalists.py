"""The best functions once more, with other seeds, judged on images that chose nothing: how much was luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial, TrialState

from aconite.lab.costs import Cost, measure_costs
from aconite.lab.data import training_batches
from aconite.lab.search.child import Child, SearchData, error_of, train_child
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import SharedStudy
from aconite.lab.training import Cell, new_task
from aconite.nn import Expression

__all__ = ["BASELINES", "baseline_trials", "costs_of", "diverged", "finalist_trials", "train_finalists"]

BASELINES = ("relu", "silu", "swish", "acon-c")
"""What every search is compared with; ReLU is what the differences are taken to."""

_COST_SECONDS = 10.0
_DIGITS = 5


def train_finalists(
    shared: SharedStudy,
    activations: Sequence[str],
    settings: SearchSettings,
    data: SearchData,
    origin: str,
    tell: Callable[[str], None],
) -> None:
    """Train each activation with each seed, as far as no process has; waits for those that others are at.

    The baselines are trained with the candidates' seed as well, to see where they stand among them.
    """
    cells = [(settings.seed, name) for name in BASELINES]
    cells += [(seed, name) for seed in _seeds(settings) for name in activations]
    while True:
        shared.bury()
        taken = shared.taken()
        left = [(seed, name) for seed, name in cells if _key(seed, name) not in taken]
        if not left:
            shared.wait()
            if all(_key(seed, name) in shared.taken() for seed, name in cells):
                return  # none of those that others were at was left undone
            continue
        trial = shared.study.ask()
        with shared.alive(trial):
            seed, name = left[0]
            if shared.claim(trial, _key(seed, name)) is not None:
                continue
            trial.set_user_attr("made with", origin)
            child = train_child(name, seed, settings.child("relu"), data)
            if child.validation_error is not None:
                trial.set_user_attr("test error", error_of(child.task, *data.test))
                if seed == _seeds(settings)[0]:
                    trial.set_user_attr("learnt", _learnt(child))
            trial.set_user_attr("seconds", round(child.seconds, 3))
            shared.finish(trial, child.validation_error, child.failure)
        if len(left) % len(activations) == 1:
            tell(f"finalists: {len(cells) - len(left) + 1} of {len(cells)} trained")


def finalist_trials(shared: SharedStudy, name: str, settings: SearchSettings) -> list[FrozenTrial]:
    """The trainings of an activation, by seed."""
    taken = shared.taken()
    return [taken[_key(seed, name)] for seed in _seeds(settings)]


def baseline_trials(shared: SharedStudy, settings: SearchSettings) -> dict[str, FrozenTrial]:
    """The trainings of the baselines with the candidates' seed."""
    taken = shared.taken()
    return {name: taken[_key(settings.seed, name)] for name in BASELINES}


def costs_of(activations: Sequence[str], settings: SearchSettings, data: SearchData) -> dict[str, Cost]:
    """What each activation costs in the child network; step times are ratios to ReLU's."""
    tasks = {name: new_task(Cell(0, name), settings.child("relu"), data.part).to(data.device) for name in activations}
    batch = next(iter(training_batches(data.part, settings.batch_size, seed=0)))
    images, labels, shifts, flips = (part.to(data.device) for part in batch)
    return measure_costs(tasks, BASELINES[0], (images, labels, shifts, flips), _COST_SECONDS)


def _seeds(settings: SearchSettings) -> range:
    return range(settings.seed + 1, settings.seed + 1 + settings.seeds)


def _key(seed: int, name: str) -> str:
    return f"{seed} {name}"


def _learnt(child: Child) -> list[dict[str, list[float]]]:
    """Each layer's parameters, per channel, in the order of the layers."""
    layers = [module for module in child.task.network.modules() if isinstance(module, Expression)]
    return [
        {name: [float(f"{value:.{_DIGITS}g}") for value in parameter.tolist()] for name, parameter in p.items()}
        for p in (dict(layer.named_parameters()) for layer in layers)
    ]


def diverged(trial: FrozenTrial) -> bool:
    """Whether the training blew up."""
    return trial.state == TrialState.FAIL
