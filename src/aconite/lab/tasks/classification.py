"""Image classification as a LightningModule."""

from __future__ import annotations

import math
import time
from typing import Any, TypedDict

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aconite.lab.data import ImageData, shift_and_flip
from aconite.nn import param_groups

__all__ = ["Batch", "Classification", "EpochResult"]

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # uint8 images, labels, shifts, flips: what training_batches yields


class EpochResult(TypedDict):
    """One epoch: the training loss and error while it ran, on augmented images; the test error at its end; in %."""

    train_loss: float
    train_error: float
    test_error: float
    seconds: float


class Classification(pl.LightningModule):
    """A network that learns to name the class of an image: SGD with momentum 0.9, a falling learning rate.

    Images come as uint8 (N, C, H, W) and are shifted, mirrored and normalised here, on the device. ``history`` has
    one :class:`EpochResult` for each finished epoch and travels in the checkpoint.
    """

    history: list[EpochResult]

    def __init__(
        self,
        network: nn.Module,
        data: ImageData,
        *,
        lr: float,
        weight_decay: float,
        label_smoothing: float,
        schedule: str,
    ) -> None:
        super().__init__()
        self.network, self.reach = network, data.reach
        self.lr, self.weight_decay, self.schedule = lr, weight_decay, schedule
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        mean, deviation = data.channel_statistics()
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("deviation", deviation[:, None, None], persistent=False)
        self.mean: Tensor
        self.deviation: Tensor
        self.history = []
        self._train, self._test, self._started = _Tally(), _Tally(), 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (N, classes) of uint8 images (N, C, H, W)."""
        scores: Tensor = self.network((images - self.mean) / self.deviation)
        return scores

    def training_step(self, batch: Batch, number: int = 0) -> Tensor:
        images, labels, shifts, flips = batch
        scores = self(shift_and_flip(images, shifts, flips, self.reach))
        loss: Tensor = self.loss(scores, labels)
        self._train.add(scores, labels, loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int = 0) -> None:
        images, labels = batch
        scores = self(images)
        self._test.add(scores, labels, F.cross_entropy(scores, labels))

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD in which the learnt activations, biases and norms are not decayed."""
        groups = param_groups(self.network, self.weight_decay)
        return torch.optim.SGD(groups, lr=self.lr, momentum=0.9)

    def configure_optimizers(self) -> Any:
        optimizer, steps = self.optimizer(), self.trainer.estimated_stepping_batches
        fall = {
            "cosine": lambda step: (1 + math.cos(math.pi * step / steps)) / 2,
            "linear": lambda step: 1 - step / steps,
        }[self.schedule]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, fall)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        self._train, self._started = _Tally(), time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        self._test = _Tally()

    def on_train_epoch_end(self) -> None:
        loss, error = self._train.means()
        self.history.append(
            EpochResult(
                train_loss=loss,
                train_error=error,
                test_error=self._test.means()[1],
                seconds=time.perf_counter() - self._started,
            )
        )
        if not math.isfinite(loss):  # such a network does not come back
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]


class _Tally:
    """Sums kept on the device, so that a step waits for nothing."""

    def __init__(self) -> None:
        self.images = 0
        self.loss: Tensor | float = 0.0
        self.wrong: Tensor | int = 0

    def add(self, scores: Tensor, labels: Tensor, loss: Tensor) -> None:
        self.images += len(labels)
        self.loss = self.loss + loss.detach() * len(labels)
        self.wrong = self.wrong + (scores.detach().argmax(1) != labels).sum()

    def means(self) -> tuple[float, float]:
        """The loss of an image and the error in %."""
        return float(self.loss) / self.images, 100 * float(self.wrong) / self.images
