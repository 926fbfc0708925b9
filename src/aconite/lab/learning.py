"""Keeps what the activations have learnt after each epoch of a training, in its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from aconite.errors import CheckpointError, SettingsError, UnknownNameError
from aconite.lab.checkpoints import last_good_checkpoint
from aconite.lab.data import ImageData
from aconite.lab.learnt import learnt
from aconite.lab.tasks import Classification
from aconite.report import LayerParameters

__all__ = ["LearntEpochs", "learnt_epochs"]

Epoch = dict[str, dict[str, list[float]]]


class LearntEpochs(Callback):
    """Notes p1, p2 and β of three layers before the first epoch and after each; Meta-ACON's β is a mean over seven test
    images. It travels in the checkpoints, so a resumed training has all of it. Seven images take milliseconds.
    """

    def __init__(self, data: ImageData) -> None:
        self.data = data
        self.epochs: list[Epoch] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.epochs:
            self._note(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._note(pl_module)

    def _note(self, task: pl.LightningModule) -> None:
        assert isinstance(task, Classification)
        modes = {module: module.training for module in task.modules()}
        self.epochs.append(learnt(task, self.data)["layers"])
        for module, mode in modes.items():
            module.training = mode

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]


def learnt_epochs(
    run: Path | str, cell: str | None = None, tell: Callable[[str], None] = print
) -> list[dict[str, LayerParameters]]:
    """What three layers of a training had learnt before its first epoch and after each, for `write_learning`.

    Args:
        run: the folder of a comparison.
        cell: which training, such as "acon-c-seed0"; the first that learns an activation unless given.
        tell: is told of damaged checkpoints.

    Raises:
        CheckpointError: no checkpoint of such a training, or one that an older version wrote.
        UnknownNameError: the folder has no such cell.
        SettingsError: the training learns no activation.
    """
    names = sorted(path.name for path in (Path(run) / "checkpoints").glob("*") if path.is_dir())
    if not names:
        raise CheckpointError(f"{run} holds no checkpoints: name the folder that `aconite compare` wrote (--out)")
    if cell is not None and cell not in names:
        raise UnknownNameError("cell", cell, names)
    for name in names if cell is None else [cell]:
        path = last_good_checkpoint(Path(run) / "checkpoints" / name, tell)
        if path is None:
            continue
        kept = torch.load(path, map_location="cpu", weights_only=True)["callbacks"].get(LearntEpochs.__qualname__)
        if kept is None:
            raise CheckpointError(f"{path} is of an older version, which did not keep each epoch: train again")
        if all(kept["epochs"]):
            return [{title: LayerParameters(**v) for title, v in epoch.items()} for epoch in kept["epochs"]]
    raise SettingsError(f"{cell or 'no training'} in {run} learns no p1, p2 or β; there are {', '.join(names)}")
