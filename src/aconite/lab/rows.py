"""Machine-readable results: one flat record for each finished cell and each cost, with where it comes from.

Nothing in a row names a person's machine or folders. What depends on the clock stands under "timing"; all else is the
same whenever the same command runs on the same machine.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from aconite.kernels import native_library
from aconite.lab.costs import Cost
from aconite.lab.data import ImageData
from aconite.lab.settings import CompareSettings
from aconite.lab.tasks import EpochResult
from aconite.lab.training import Cell
from aconite.provenance import provenance

__all__ = ["Row", "cell_row", "cost_row", "recorded_settings"]

Row = dict[str, Any]


def recorded_settings(settings: CompareSettings, data: ImageData) -> Row:
    """The settings as rows and run folders hold them: the data by name and content, the device as it was chosen."""
    record = asdict(settings) | {"data": data.name, "device": settings.resolved_device}
    if not settings.se:
        del record["se"]  # a run from before there was the option goes on
    return record | {"activations": list(settings.activations), "content": data.content}


def cell_row(cell: Cell, history: list[EpochResult], settings: CompareSettings, data: ImageData) -> Row:
    """The row of a finished cell; ``error`` is the last epoch's test error in %.

    From the first epoch whose loss was not finite the cell counts as diverged, with the error of guessing.
    """
    good = history[: next((i for i, epoch in enumerate(history) if not math.isfinite(epoch["train_loss"])), None)]
    lost = settings.epochs - len(good)
    guessing = [100 * (1 - 1 / len(data.classes))] * lost
    test_errors = [epoch["test_error"] for epoch in good] + guessing
    return {
        "kind": "cell",
        "data": data.name,
        "model": settings.model,
        "activation": cell.activation,
        "seed": cell.seed,
        "error": test_errors[-1],
        "diverged": lost > 0,
        "test_errors": test_errors,
        "train_errors": [epoch["train_error"] for epoch in good] + guessing,
        "train_losses": [epoch["train_loss"] for epoch in good] + [None] * lost,
        "settings": recorded_settings(settings, data),
        "provenance": _provenance(settings),
        "timing": {"epoch_seconds": [epoch["seconds"] for epoch in history]},
    }


def cost_row(activation: str, cost: Cost, settings: CompareSettings, data: ImageData) -> Row:
    """The row of an activation's cost in the network; times are p20, p50, p80."""
    return {
        "kind": "cost",
        "data": data.name,
        "model": settings.model,
        "activation": activation,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "saved_bytes": cost.saved_bytes,
        "settings": recorded_settings(settings, data),
        "provenance": _provenance(settings),
        "timing": {"step_ms": cost.step_ms, "step_ratio": cost.step_ratio, "baseline": settings.baseline},
    }


def _provenance(settings: CompareSettings) -> Row:
    origin = provenance(settings.resolved_device, packages=("lightning",))
    return origin | {"native": native_library().isa}  # times and last digits are those of the kernels that ran
