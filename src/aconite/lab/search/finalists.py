"""The best functions once more, with other seeds, judged on images that chose nothing: how much was luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import optuna
from optuna.trial import FrozenTrial

from aconite.lab.costs import Cost, measure_costs
from aconite.lab.data import training_batches
from aconite.lab.search.child import Child, SearchData, error_of, train_child
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import Result, SharedStudy
from aconite.lab.training import Cell, new_task
from aconite.nn import ChannelModule

__all__ = ["BASELINE", "BASELINES", "Finals", "train_finalists"]

BASELINES = {
    "relu": "max(x, 0)",
    "silu": "x * sigmoid(x)",
    "swish": "x * sigmoid(beta * x)",
    "acon-c": "smax(p1 * x, p2 * x, beta)",
}
"""What every search is compared with, by name; and its formula."""

BASELINE = "relu"
"""What the differences are taken to."""

_COST_SECONDS = 10.0
_DIGITS = 5


@dataclass(frozen=True)
class Finals:
    """Activation → seed → its trial; the baselines' trials with the candidates' seed; activation → its cost."""

    trials: Mapping[str, Mapping[int, FrozenTrial]]
    baselines: Mapping[str, FrozenTrial]
    costs: Mapping[str, Cost]


def train_finalists(
    shared: SharedStudy,
    activations: Sequence[str],
    settings: SearchSettings,
    data: SearchData,
    origin: str,
    tell: Callable[[str], None],
) -> Finals:
    """Train each activation with each new seed and measure its costs, as far as no process has.

    The baselines are trained with the candidates' seed as well, to see where they stand among them.
    """
    seeds = range(settings.seed + 1, settings.seed + 1 + settings.seeds)
    cells = [(settings.seed, name) for name in BASELINES] + [(seed, name) for seed in seeds for name in activations]

    def train(number: int, trial: optuna.Trial) -> Result:
        if number % len(activations) == 0:
            tell(f"finalists: training {number + 1} of {len(cells)}")
        seed, name = cells[number]
        trial.set_user_attr("made with", origin)
        child = train_child(name, seed, settings.child("relu"), data)
        if child.validation_error is not None:
            trial.set_user_attr("test error", error_of(child.task, *data.test))
            if seed == seeds[0]:
                trial.set_user_attr("learnt", _learnt(child))
        trial.set_user_attr("seconds", round(child.seconds, 3))
        return child.validation_error, child.failure

    def measure(trial: optuna.Trial) -> Result:
        tell("measuring what each finalist costs")
        costs = _costs(activations, settings, data)
        trial.set_user_attr("costs", {name: asdict(cost) for name, cost in costs.items()})
        return 0.0, None

    trained = shared.share_out({_key(*cell): partial(train, number) for number, cell in enumerate(cells)})
    [measured] = shared.share_out({f"costs of {', '.join(activations)}": measure}).values()  # when nobody trains
    return Finals(
        {name: {seed: trained[_key(seed, name)] for seed in seeds} for name in activations},
        {name: trained[_key(settings.seed, name)] for name in BASELINES},
        {name: Cost(**measured.user_attrs["costs"][name]) for name in activations},
    )


def _costs(activations: Sequence[str], settings: SearchSettings, data: SearchData) -> dict[str, Cost]:
    """What each activation costs in the child network; step times are ratios to the baseline's."""
    tasks = {name: new_task(Cell(0, name), settings.child("relu"), data.part).to(data.device) for name in activations}
    batch = next(iter(training_batches(data.part, settings.batch_size, seed=0)))
    images, labels, shifts, flips = (part.to(data.device) for part in batch)
    return measure_costs(tasks, BASELINE, (images, labels, shifts, flips), _COST_SECONDS)


def _key(seed: int, name: str) -> str:
    return f"{seed} {name}"


def _learnt(child: Child) -> list[dict[str, list[float]]]:
    """Each layer's parameters, per channel, in the order of the layers."""
    layers = [module for module in child.task.network.modules() if isinstance(module, ChannelModule)]
    return [
        {name: [float(f"{value:.{_DIGITS}g}") for value in parameter.tolist()] for name, parameter in p.items()}
        for p in (dict(layer.named_parameters()) for layer in layers)
    ]
