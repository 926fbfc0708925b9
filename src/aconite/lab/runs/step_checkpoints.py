"""Checkpoints within an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from aconite.lab.checkpoints import EpochCheckpoints
from aconite.lab.runs.experiment import Experiment

__all__ = ["StepCheckpoints"]


class StepCheckpoints(EpochCheckpoints):
    """At the end of each epoch, and within it after every so many optimiser steps: ``epoch-0003-step-000250.ckpt`` is
    of the fourth epoch. At SIGTERM a training of one process saves as well; several do not hear of it in the same step.
    """

    def __init__(self, folder: Path, every: int | None) -> None:
        super().__init__(folder)
        self.every = every

    def state_dict(self) -> dict[str, Any]:
        return {}  # no random numbers: a run draws its own for each batch, on however many devices it goes on

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Experiment)
        passes, step = batch_idx + 1, trainer.global_step
        ended = passes == trainer.num_training_batches or step == pl_module.steps
        if ended or passes % trainer.accumulate_grad_batches:
            return  # an epoch's end is saved once it is evaluated; the middle of a step never
        stopping = trainer.received_sigterm and trainer.world_size == 1
        if stopping or (self.every and step % self.every == 0):
            self.save(trainer, f"epoch-{trainer.current_epoch:04}-step-{step:06}")
