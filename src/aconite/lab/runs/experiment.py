"""What every task's training has in common, as a LightningModule: the optimiser, the record of each epoch, its end."""

from __future__ import annotations

import hashlib
import math
import time
from abc import ABC, abstractmethod
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from aconite.lab.runs.rates import optimiser, rate_factor
from aconite.lab.runs.settings import RunSettings

__all__ = ["Experiment", "Figures", "exact"]

Figures = dict[str, float]  # name of a metric → value


class Experiment(pl.LightningModule, ABC):
    """A network and how it learns one task. A task says what the loss is, and how the network is measured.

    ``history`` has one record for each finished epoch: "train_loss" (the mean over its images and all processes),
    the metrics of its evaluation, if it had one, and "seconds". It travels in the checkpoint, as do the losses of an
    epoch that is not finished.

    Torch's random numbers in a batch are a function of (seed, epoch, batch, rank), so that a run that goes on draws
    what an uninterrupted one draws.
    """

    history: list[Figures]
    _optimiser: torch.optim.Optimizer

    def __init__(self, network: nn.Module, settings: RunSettings, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.settings, self.classes = network, settings, classes
        self.history = []
        self._losses, self.measured_last, self._started = _Mean(), Figures(), 0.0

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor], int]:
        """The loss, its parts by name (logged), and how many images it is the mean of."""

    @abstractmethod
    def measure(self, batch: Any) -> None:
        """Adds a batch of the evaluation to the metrics."""

    @abstractmethod
    def measured(self) -> Figures:
        """The metrics of all batches of all processes since the last call; asked of every process together."""

    def training_step(self, batch: Any, number: int = 0) -> Tensor:
        loss, parts, images = self.loss(batch)
        self._losses.add(loss, images)
        if parts:
            self.log_dict({f"train/{name}": part.detach() for name, part in parts.items()}, batch_size=images)
        self.log("train/loss", loss.detach(), batch_size=images)
        self.log("train/rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def validation_step(self, batch: Any, number: int = 0) -> None:
        self.measure(batch)

    def on_validation_epoch_end(self) -> None:
        self.measured_last = self.measured()
        self.log_dict({f"test/{name}": value for name, value in self.measured_last.items()})

    def setup(self, stage: str) -> None:
        if stage == "fit":  # now: FSDP keeps the parameters, but flattens them, and then all would look like biases
            self._optimiser = optimiser(self.network, self.settings)

    def configure_optimizers(self) -> Any:
        scheduler = torch.optim.lr_scheduler.LambdaLR(self._optimiser, rate_factor(self.settings, self.steps))
        return {"optimizer": self._optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def steps(self) -> int:
        """Of the whole training."""
        if self.settings.steps is not None:
            return self.settings.steps
        # not estimated_stepping_batches, for which Lightning asks for the loaders before it knows where to go on
        return (self.trainer.max_epochs or 0) * int(self.trainer.limit_train_batches) // self.settings.accumulate

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, targets = batch
        if self.settings.channels_last and isinstance(images, Tensor):
            images = images.contiguous(memory_format=torch.channels_last)
        return images, targets

    def on_train_start(self) -> None:
        if self.history and not math.isfinite(self.history[-1]["train_loss"]):
            self.trainer.should_stop = True
        self._evaluate_the_last()

    def on_train_epoch_start(self) -> None:
        self._losses, self.measured_last, self._started = _Mean(), Figures(), time.perf_counter()
        self._evaluate_the_last()

    def _evaluate_the_last(self) -> None:
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        words = f"{self.settings.seed} {self.current_epoch} {batch_idx} {self.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big"))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step == self.steps:
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        figures = self.last_figures()
        self.log("train/epoch_loss", figures["train_loss"])
        self.history.append(figures | {"seconds": self._seconds()})
        if not math.isfinite(figures["train_loss"]):  # such a network does not come back
            self.trainer.should_stop = True

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def over_processes(self, sums: Tensor) -> Tensor:
        """The sum of each process's vector; asked of every process together."""
        gathered = self.all_gather(sums)
        assert isinstance(gathered, Tensor)
        return gathered.reshape(-1, len(sums)).sum(0)

    def last_figures(self) -> Figures:
        """The epoch's training loss so far and the metrics of the last evaluation; asked of every process together."""
        loss, images = self.over_processes(self._losses.sums(self.device)).tolist()
        return {"train_loss": loss / images if images else math.nan, **self.measured_last}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        losses = self.all_gather(self._losses.sums(self.device))
        assert isinstance(losses, Tensor)
        checkpoint["history"] = self.history
        checkpoint["epoch_losses"] = losses.reshape(-1, 2).tolist()  # of each process
        checkpoint["epoch_seconds"] = self._seconds()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self._started = time.perf_counter() - checkpoint["epoch_seconds"]
        losses, rank = checkpoint["epoch_losses"], self.global_rank
        if len(losses) != self.trainer.world_size:  # it goes on with other devices
            losses = [[sum(part) for part in zip(*losses, strict=True)]] + [[0.0, 0.0]] * rank
        self._losses = _Mean(*losses[rank])


def exact(device: torch.device) -> torch.dtype:
    """In which sums over a data set are kept: float64, which Apple's GPUs have not."""
    return torch.float32 if device.type == "mps" else torch.float64


class _Mean:
    """Of the losses of an epoch's images; kept on the device, so that a step waits for nothing."""

    def __init__(self, total: float = 0.0, images: float = 0.0) -> None:
        self.sum: Tensor | float = total
        self.images = images

    def add(self, loss: Tensor, images: int) -> None:
        self.images += images
        self.sum = self.sum + loss.detach().to(exact(loss.device)) * images

    def sums(self, device: torch.device) -> Tensor:
        """The sum and the number of images."""
        return torch.as_tensor([float(self.sum), self.images], dtype=exact(device), device=device)
