"""The machine-readable record of a search: a row for the search, each candidate, baseline, finalist's seed and cost.

What stands under "timing" depends on the clock. A row's "made_with" is a key of the search row's "provenance":
processes on several machines may have worked on one search.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from aconite.kernels import native_library
from aconite.lab.costs import Cost
from aconite.lab.search.finalists import Finals
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import SharedStudy
from aconite.provenance import provenance

__all__ = ["Row", "record_origin", "search_rows"]

Row = dict[str, Any]

_ORIGIN = "made with "
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def record_origin(study: Study, device: str) -> str:
    """Note in the study where this process's measurements come from; returns the short name of that."""
    origin = provenance(device, packages=("lightning", "optuna")) | {"native": native_library().isa}
    name = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:8]
    study.set_user_attr(_ORIGIN + name, origin)
    return name


def search_rows(
    searched: SharedStudy,
    finals: Finals,
    settings: SearchSettings,
    recorded: Row,
    functions: int | None,
    guessing: float,
) -> list[Row]:
    """All rows; ``functions`` is how many the space has, where it is known, ``guessing`` a blown-up one's error."""
    candidates = [_candidate(trial) for trial in searched.counted() if trial.state in _STATES]
    marks = searched.study.user_attrs
    states = [row["state"] for row in candidates]
    head = {
        "kind": "search",
        "data": recorded["data"],
        "functions": functions,
        "tried": len(candidates),
        "failed": states.count("failed"),
        "pruned": states.count("pruned"),
        "settings": {name: value for name, value in recorded.items() if name != "minutes"},  # those are of one call
        "provenance": {key.removeprefix(_ORIGIN): value for key, value in marks.items() if key.startswith(_ORIGIN)},
    }
    baselines = [
        {"kind": "baseline", "activation": name, "seed": settings.seed, "validation_error": trial.value}
        for name, trial in finals.baselines.items()
    ]
    finalists = [
        _finalist(name, seed, trial, guessing)
        for name, trials in finals.trials.items()
        for seed, trial in trials.items()
    ]
    return [head, *candidates, *baselines, *finalists, *(_cost(name, cost) for name, cost in finals.costs.items())]


def _candidate(trial: FrozenTrial) -> Row:
    return {
        "kind": "candidate",
        "number": trial.number,
        "expression": trial.user_attrs["expression"],
        "choices": trial.params,
        "state": _STATES[trial.state],
        "error": trial.value if trial.state == TrialState.COMPLETE else None,
        "reason": trial.user_attrs.get("reason"),
        "made_with": trial.user_attrs.get("made with"),
        "timing": {"seconds": trial.user_attrs.get("seconds")},
    }


def _finalist(name: str, seed: int, trial: FrozenTrial, guessing: float) -> Row:
    diverged = trial.state == TrialState.FAIL
    return {
        "kind": "finalist",
        "activation": name,
        "seed": seed,
        "validation_error": guessing if diverged else trial.value,
        "error": guessing if diverged else trial.user_attrs["test error"],
        "diverged": diverged,
        "learnt": trial.user_attrs.get("learnt"),
        "made_with": trial.user_attrs.get("made with"),
        "timing": {"seconds": trial.user_attrs.get("seconds")},
    }


def _cost(name: str, cost: Cost) -> Row:
    return {
        "kind": "cost",
        "activation": name,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "saved_bytes": cost.saved_bytes,
        "timing": {"step_ms": cost.step_ms, "step_ratio": cost.step_ratio, "baseline": "relu"},
    }
