"""How many images a second a run learns from, evaluations and checkpoints at an epoch's end left out."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from aconite.lab.runs.experiment import Experiment

__all__ = ["Speed"]


class Speed(Callback):
    """``images_per_second`` has a value for each epoch, of all processes together; it travels in the checkpoint."""

    def __init__(self) -> None:
        self.images_per_second: list[float] = []
        self._started: float | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._started is None:
            self._started, self._batches = time.perf_counter(), 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._batches += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module)

    def _stop(self, module: pl.LightningModule) -> None:
        if self._started is None:
            return
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        assert isinstance(module, Experiment)
        images = self._batches * module.settings.batch_size // module.settings.accumulate
        self.images_per_second.append(images / (time.perf_counter() - self._started))
        self._started = None

    def state_dict(self) -> dict[str, Any]:
        return {"images_per_second": self.images_per_second}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images_per_second = state_dict["images_per_second"]
