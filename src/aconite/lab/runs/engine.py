"""From settings to Lightning's Trainer: devices, precision, loggers, checkpoints; all of them the engine's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from aconite.errors import AconiteError, MissingExtraError, SettingsError
from aconite.lab.checkpoints import RenamedCheckpoints
from aconite.lab.manners import readable_errors
from aconite.lab.runs.batches import Batches
from aconite.lab.runs.progress import is_first_process
from aconite.lab.runs.settings import RunSettings

__all__ = ["by_the_first", "make_trainer", "side_by_side"]

_Result = TypeVar("_Result")


def make_trainer(
    settings: RunSettings, folder: Path, callbacks: Sequence[Callback], batches: Batches | None = None
) -> pl.Trainer:
    """The trainer of a run; without ``batches`` for an evaluation alone.

    Raises:
        SettingsError: accelerator, devices, strategy or precision that Lightning does not find here, or that do not
            suit the data.
    """
    devices, nodes = _place(settings)
    loggers = _loggers(settings, folder)
    plugins: list[Any] = [RenamedCheckpoints()]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # Slurm's own --requeue starts the command again
    try:
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=settings.strategy,
            precision=settings.precision,  # type: ignore[arg-type]  # its choices are checked by the settings
            max_epochs=batches.epochs if batches else 1,
            limit_train_batches=batches.of_an_epoch if batches else None,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip_norm,
            sync_batchnorm=settings.sync_batchnorm,
            check_val_every_n_epoch=settings.validate_every,
            callbacks=list(callbacks),
            plugins=plugins,
            logger=loggers,
            log_every_n_steps=10,
            use_distributed_sampler=False,  # the data divide themselves, by (seed, epoch, index)
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            benchmark=False,
            default_root_dir=folder,
        )
    except Exception as error:  # Lightning raises MisconfigurationException, ValueError, RuntimeError, …
        raise SettingsError(f"Lightning refuses accelerator {settings.accelerator}, devices {devices}, strategy "
                            f"{settings.strategy}: {' '.join(str(error).split())}") from error  # fmt: skip
    _check(settings, trainer)
    if batches:
        batches.check(trainer.world_size)
    return trainer


def side_by_side(trainer: pl.Trainer) -> bool:
    """Whether the processes of a training were started together, by torchrun or srun; Lightning starts the others once
    the first one trains.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return trainer.world_size > 1 and not isinstance(environment, LightningEnvironment)


def by_the_first(trainer: pl.Trainer, work: Callable[[], _Result]) -> _Result | None:
    """What the work gives, which the first process alone does; its failure ends all of them. Processes that Lightning
    has started get None: the first one had done it before.
    """
    if not side_by_side(trainer):
        return work() if is_first_process() else None
    result, failure = None, None
    with readable_errors():
        trainer.strategy.setup_environment()  # as `Trainer.fit` does; the processes wait for each other
        if trainer.is_global_zero:
            try:
                result = work()
            except (AconiteError, OSError) as error:
                failure = error
        result, told = trainer.strategy.broadcast((result, failure and str(failure)))
    if told is not None:
        raise failure or AconiteError(told)
    return result


def _place(settings: RunSettings) -> tuple[int | str, int]:
    """Devices and nodes: as many as torchrun or srun has started, else those of the settings."""
    devices, nodes = "auto" if settings.devices == "auto" else int(settings.devices), settings.nodes
    if TorchElasticEnvironment.detect():
        processes, machines = int(os.environ["WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    elif SLURMEnvironment.detect():
        processes, machines = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
    else:
        return devices, nodes
    each = processes // machines
    if devices not in ("auto", 1, each) or nodes not in (1, machines):
        raise SettingsError(
            f"devices {devices} and nodes {nodes}, but {each} processes on each of {machines} machines have been "
            "started: leave --devices and --nodes away; more processes are srun's or torchrun's to start"
        )
    return each, machines


def _check(settings: RunSettings, trainer: pl.Trainer) -> None:
    """What Lightning lets through with a warning, or with an error once hours have passed."""
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if trainer.precision != settings.precision:
        raise SettingsError(f"precision {settings.precision} does not exist here: choose bf16-mixed")
    if on_cpu and trainer.world_size > 1 and settings.sync_batchnorm:
        raise SettingsError("sync_batchnorm is for GPUs: give --no-sync-batchnorm to run on several CPU processes")
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise SettingsError(f"strategy {settings.strategy} trains in processes whose results do not come back: "
                            "choose ddp")  # fmt: skip


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
