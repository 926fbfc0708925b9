"""From settings to Lightning's Trainer: devices, precision, loggers, checkpoints; all of them the engine's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch.utils.data import DataLoader

from aconite.errors import MissingExtraError, SettingsError
from aconite.lab.checkpoints import RenamedCheckpoints
from aconite.lab.runs.kinds import OpenData
from aconite.lab.runs.settings import RunSettings

__all__ = ["Batches", "make_trainer"]


class Batches(pl.LightningDataModule):
    """Each process's share of the data; asked for once the processes know each other."""

    def __init__(self, data: OpenData, settings: RunSettings) -> None:
        super().__init__()
        self.data, self.settings = data, settings

    def train_dataloader(self) -> DataLoader[Any]:
        rank, ranks = self._place()
        return self.data.training(self._share(ranks), rank, ranks)

    def val_dataloader(self) -> DataLoader[Any]:
        rank, ranks = self._place()
        return self.data.evaluation(self._share(ranks), rank, ranks)

    def _place(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def _share(self, ranks: int) -> int:
        """Images of one backward pass of one process."""
        shares = ranks * self.settings.accumulate
        if self.settings.batch_size % shares:
            raise SettingsError(
                f"batch_size {self.settings.batch_size} cannot be divided into {shares} equal batches ({ranks} "
                f"devices, accumulate {self.settings.accumulate}): choose a multiple of {shares}"
            )
        if len(self.data.found.train) < self.settings.batch_size:
            raise SettingsError(
                f"batch_size {self.settings.batch_size} is more than the {len(self.data.found.train)} training images: choose a "
                "smaller --batch-size"
            )
        return self.settings.batch_size // shares


def make_trainer(settings: RunSettings, folder: Path, callbacks: Sequence[Callback]) -> pl.Trainer:
    """The trainer of a run.

    Raises:
        SettingsError: accelerator, devices or strategy that Lightning does not find here.
    """
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices="auto" if settings.devices == "auto" else int(settings.devices),
            num_nodes=settings.nodes,
            strategy=settings.strategy,
            precision=settings.precision,  # type: ignore[arg-type]  # its choices are checked by the settings
            max_epochs=-1 if settings.epochs is None else settings.epochs,
            max_steps=-1 if settings.steps is None else settings.steps,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip_norm,
            sync_batchnorm=settings.sync_batchnorm,
            check_val_every_n_epoch=settings.validate_every,
            callbacks=list(callbacks),
            plugins=[RenamedCheckpoints()],
            logger=_loggers(settings, folder),
            log_every_n_steps=10,
            use_distributed_sampler=False,  # the data divide themselves, by (seed, epoch, index)
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            benchmark=False,
            default_root_dir=folder,
        )
    except Exception as error:  # Lightning raises MisconfigurationException, ValueError, RuntimeError, …
        raise SettingsError(f"Lightning refuses accelerator {settings.accelerator}, devices {settings.devices}, "
                            f"strategy {settings.strategy}: {error}") from error  # fmt: skip


def _loggers(settings: RunSettings, folder: Path) -> list[Logger]:
    made: list[Logger] = []
    if "csv" in settings.loggers:
        # a start of its own: Lightning's CSVLogger deletes what an earlier one has written
        starts = len(list((folder / "csv").glob("start-*")))
        made.append(CSVLogger(folder, name="csv", version=f"start-{starts}"))
    if "tensorboard" in settings.loggers:
        try:
            made.append(TensorBoardLogger(folder, name="tensorboard", version=""))
        except ModuleNotFoundError as error:
            raise MissingExtraError("tensorboard", "lab") from error
    return made
