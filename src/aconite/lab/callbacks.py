"""A Lightning callback that logs what the learnt activations become while a network trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from aconite.errors import SettingsError
from aconite.inspection import ActivationStatistics, shape_parameters

__all__ = ["LogActivations"]

_QUANTILES = {"q05": 0.05, "median": 0.5, "q95": 0.95}


class LogActivations(Callback):
    """Logs p1, p2 and β of every ACON layer, and the share of dead units of every activation, every so many steps.

    A logger that can draw histograms (TensorBoard) gets them, as ``activations/<layer>/beta``; any other (CSV) gets
    mean, standard deviation, median and the 5 % and 95 % quantiles as numbers, ``activations/<layer>/beta_mean``. The
    share of dead channels in the step's batch, those whose output does not move, is ``activations/<layer>/dead``. A β
    that is generated is averaged over the batch. Without a logger nothing is measured.

    Only the first process of a distributed training measures, on its own part of the batch, and only in the steps that
    are logged do hooks watch the model: no other step costs anything. A model whose activations are functions or
    fused kernels has no dead units to count; its parameters are logged.

    Args:
        every_n_steps: optimiser steps from one logging to the next; the first is logged.

    Raises:
        SettingsError: ``every_n_steps`` is not a positive number, or the model has nothing to log.

    >>> import lightning.pytorch as pl
    >>> callback = LogActivations(every_n_steps=50)
    >>> trainer = pl.Trainer(callbacks=[callback], logger=False, accelerator="cpu", enable_checkpointing=False)
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if isinstance(every_n_steps, bool) or not isinstance(every_n_steps, int) or every_n_steps < 1:
            raise SettingsError(f"every_n_steps={every_n_steps!r}: expected a whole number of at least 1")
        self.every_n_steps = every_n_steps
        self._statistics: ActivationStatistics | None = None
        self._step, self._due = -1, False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a model without activations at the start rather than log nothing for hours."""
        if _watched(pl_module) is None and not shape_parameters(pl_module):
            raise SettingsError(f"{type(pl_module).__name__} has no activation module whose state could be logged")

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Begin to watch where the step is due; of the batches that one step gathers, the first."""
        step = trainer.global_step
        self._due = step % self.every_n_steps == 0 and step != self._step
        self._due = self._due and bool(trainer.loggers) and trainer.is_global_zero
        if self._due:
            self._step = step
            self._statistics = _watched(pl_module)
            if self._statistics is not None:
                self._statistics.attach()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Log what was seen."""
        if not self._due:
            return
        vectors, numbers = _measured(pl_module, self._statistics)
        self._stop()
        summaries = {f"{name}_{kind}": value for name, vector in vectors.items() for kind, value in _summary(vector)}
        for logger in trainer.loggers:
            draw = getattr(getattr(logger, "experiment", None), "add_histogram", None)
            if draw is None:
                logger.log_metrics(numbers | summaries, step=self._step)
                continue
            for name, vector in vectors.items():
                draw(name, vector, global_step=self._step)
            logger.log_metrics(numbers, step=self._step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave no hooks behind."""
        self._stop()

    def _stop(self) -> None:
        self._due = False
        if self._statistics is not None:
            self._statistics.detach()
            self._statistics = None


def _watched(model: nn.Module) -> ActivationStatistics | None:
    """None where no activation can be watched: functions only, or fused kernels."""
    try:
        return ActivationStatistics(model, slopes=False)
    except SettingsError:
        return None


def _measured(model: nn.Module, seen: ActivationStatistics | None) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The vectors p1, p2 and β of each layer, and each layer's share of dead units."""
    layers = {} if seen is None else seen.layers()
    parameters = shape_parameters(model) | {name: layer.parameters for name, layer in layers.items()}
    vectors = {
        f"activations/{name}/{kind}": vector
        for name, values in parameters.items()
        if values is not None
        for kind, vector in values._asdict().items()
        if vector is not None
    }
    return vectors, {f"activations/{name}/dead": layer.dead_share for name, layer in layers.items()}


def _summary(vector: Tensor) -> Iterator[tuple[str, float]]:
    yield "mean", float(vector.mean())
    yield "std", float(vector.std(correction=0))
    points = torch.tensor(list(_QUANTILES.values()), dtype=vector.dtype)
    yield from zip(_QUANTILES, vector.quantile(points).tolist(), strict=True)
