"""Trains one cell of a comparison, from its start or from its last good checkpoint, with Lightning."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from aconite.lab.checkpoints import EpochCheckpoints, RenamedCheckpoints, last_good_checkpoint
from aconite.lab.data import ImageData, evaluation_batches, training_batches
from aconite.lab.learning import LearntEpochs
from aconite.lab.manners import NotesInterrupts, honest_interrupts, quiet_lightning
from aconite.lab.progress import Progress
from aconite.lab.settings import CompareSettings
from aconite.lab.tasks import Classification
from aconite.models import create, stem_for

__all__ = ["Cell", "new_task", "train"]


@dataclass(frozen=True, order=True)
class Cell:
    """One training of a comparison: an activation with a seed."""

    seed: int
    activation: str

    @property
    def title(self) -> str:
        return f"{self.activation}-seed{self.seed}"

    @property
    def name(self) -> str:
        """The title as a file's name: of a formula, its words and a checksum."""
        if re.fullmatch(r"[\w.-]+", self.title):
            return self.title
        words = re.sub(r"\W+", "_", self.activation)[:60]
        return f"{words}-{zlib.crc32(self.activation.encode()):08x}-seed{self.seed}"


def new_task(cell: Cell, settings: CompareSettings, data: ImageData) -> Classification:
    """The untrained task of a cell; equal seeds share every weight outside the activations."""
    torch.manual_seed(cell.seed)
    network = create(
        settings.model,
        activation=cell.activation,
        se=settings.se,
        num_classes=len(data.classes),
        in_channels=data.channels,
        stem=stem_for(min(data.image_size)),
        init=settings.init,
    )
    return Classification(
        network,
        data,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        label_smoothing=settings.label_smoothing,
        schedule=settings.schedule,
    )


def train(cell: Cell, settings: CompareSettings, data: ImageData, folder: Path, progress: Progress) -> Classification:
    """The trained task of a cell. Checkpoints lie in ``folder``; a training that was cut off goes on from there.

    A loss that is no longer finite ends the training early.
    """
    progress.cell(cell.title)
    task = new_task(cell, settings, data)
    resume = last_good_checkpoint(folder, progress.note)
    watch = _Watch(progress)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if settings.resolved_device == "cuda" else "cpu",
            devices=1,
            max_epochs=settings.epochs,
            callbacks=[watch, LearntEpochs(data), EpochCheckpoints(folder)],
            plugins=[RenamedCheckpoints()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            benchmark=False,
            default_root_dir=folder,
        )
        batches = training_batches(data, settings.batch_size, cell.seed), evaluation_batches(data, settings.batch_size)
        with honest_interrupts(watch):
            trainer.fit(task, *batches, ckpt_path=resume, weights_only=True)
    return task


class _Watch(NotesInterrupts):
    """Passes on what happens."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.progress.step(len(batch[1]), outputs["loss"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classification)
        self.progress.epoch(trainer.current_epoch, pl_module.history[-1] if pl_module.history else None)
