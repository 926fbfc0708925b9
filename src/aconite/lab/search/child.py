"""The training of one child network: compare's task, data order and schedule, in a loop without ceremony.

Images and labels lie on the device for the whole search, and no checkpoint is written: a child takes about a second.
Channels lie last, which made a training of small images 10 to 20 % faster on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aconite.lab.data import ImageData, training_batches
from aconite.lab.data.classification import stratified_split
from aconite.lab.settings import CompareSettings
from aconite.lab.tasks import Classification
from aconite.lab.training import Cell, new_task

__all__ = ["Child", "SearchData", "train_child"]

_VALIDATION_SHARE, _SPLIT_SEED = 1 / 4, 0
_TEST_BATCH = 1024


class SearchData:
    """The data set on the device: a quarter of its training images, the same in every search, is for choosing."""

    def __init__(self, data: ImageData, device: str) -> None:
        train, chosen = stratified_split(data.train_labels, _VALIDATION_SHARE, _SPLIT_SEED)
        self.whole, self.device = data, device
        self.part = ImageData(
            name=data.name,
            classes=data.classes,
            train_images=data.train_images[train],
            train_labels=data.train_labels[train],
            test_images=data.train_images[chosen],
            test_labels=data.train_labels[chosen],
            flips=data.flips,
        )
        self.train_images, self.train_labels = self.part.train_images.to(device), self.part.train_labels.to(device)
        self.validation = self.part.test_images.to(device), self.part.test_labels.to(device)
        self.test = data.test_images.to(device), data.test_labels.to(device)


@dataclass(frozen=True)
class Child:
    """What a training came to: errors in %; ``failure`` says why it has none."""

    task: Classification
    validation_error: float | None
    failure: str | None
    seconds: float


def train_child(
    activation: str,
    seed: int,
    settings: CompareSettings,
    data: SearchData,
    watch: Callable[[int, float], None] | None = None,
) -> Child:
    """Train the child network with this activation.

    ``watch`` gets the number of epochs done and the validation error after each but the last, and may raise to end it.
    """
    started = time.perf_counter()
    task = new_task(Cell(seed, activation), settings, data.part).to(data.device, memory_format=torch.channels_last)
    optimizer = task.train().optimizer()
    loader = training_batches(data.part, settings.batch_size, seed)
    order = loader.sampler
    steps = settings.epochs * len(loader)
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(settings.schedule, step / steps))
    for epoch in range(settings.epochs):
        order.set_epoch(epoch)  # type: ignore[attr-defined]
        total = torch.zeros((), device=data.device)
        for number, (index, shifts, flips) in enumerate(order):
            index = index.to(data.device)
            batch = data.train_images[index], data.train_labels[index], shifts.to(data.device), flips.to(data.device)
            optimizer.zero_grad()
            loss = task.training_step(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            fall.step()
            total = total + loss.detach()
            if epoch == number == 0 and not math.isfinite(float(total)):  # nothing to wait for: some have no value
                break
        if not math.isfinite(float(total)):
            return Child(task, None, f"the loss is not finite in epoch {epoch + 1}", time.perf_counter() - started)
        if watch is not None and epoch + 1 < settings.epochs:
            watch(epoch + 1, error_of(task, *data.validation))
    error = error_of(task, *data.validation)
    return Child(task, error, None, time.perf_counter() - started)


def _share(schedule: str, done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2 if schedule == "cosine" else 1 - done


@torch.no_grad()
def error_of(task: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The error in % on these images, in evaluation mode; scores that are not finite count as wrong."""
    task.eval()
    right = 0
    for some, wanted in zip(torch.split(images, _TEST_BATCH), torch.split(labels, _TEST_BATCH), strict=True):
        scores = task(some)
        right += int(((scores.argmax(1) == wanted) & scores.isfinite().all(1)).sum())
    task.train()
    return 100 * (1 - right / len(labels))
