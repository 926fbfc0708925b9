"""Image classification: cross-entropy; top-1 and top-5 error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aconite.lab.data.class_images import (
    classification_batches,
    classification_data,
    classification_evaluation_batches,
)
from aconite.lab.data.transforms import classification_evaluation, classification_training, tv_tensors
from aconite.lab.networks import classifier
from aconite.lab.runs.experiment import Experiment, Figures, exact
from aconite.lab.runs.kinds.drawing import captioned
from aconite.lab.runs.kinds.kind import Kind, OpenData, Prediction, network_options
from aconite.lab.runs.settings import ClassificationSettings
from aconite.surgery import fuse

__all__ = ["CLASSIFICATION", "ClassificationExperiment", "Scores"]


class ClassificationExperiment(Experiment):
    """Metrics: "loss" (cross-entropy), "error" and, from six classes on, "top5_error", in % of the test images."""

    settings: ClassificationSettings

    def __init__(self, network: nn.Module, settings: ClassificationSettings, classes: tuple[str, ...]) -> None:
        super().__init__(network, settings, classes)
        self._sums: Tensor | None = None  # images, loss, wrong, wrong among five

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor], int]:
        images, labels = batch
        scores = self.network(images)
        return F.cross_entropy(scores, labels, label_smoothing=self.settings.label_smoothing), {}, len(labels)

    def measure(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        scores = self.network(images).float()
        best = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
        loss = F.cross_entropy(scores, labels, reduction="sum")
        wrong = [len(labels) - best[:, :1].sum(), len(labels) - best.sum()]
        parts = (torch.as_tensor(part, device=loss.device) for part in (len(labels), loss, *wrong))
        sums = torch.stack([part.to(exact(loss.device)) for part in parts])
        self._sums = sums if self._sums is None else self._sums + sums

    def measured(self) -> Figures:
        own = torch.zeros(4, dtype=exact(self.device), device=self.device) if self._sums is None else self._sums
        images, loss, wrong, beyond_five = self.over_processes(own).tolist()
        self._sums = None
        figures = {"loss": loss / images, "error": 100 * wrong / images}
        return figures | ({"top5_error": 100 * beyond_five / images} if len(self.classes) > 5 else {})


@dataclass(frozen=True)
class Scores(Prediction):
    """The classes of an image with their probabilities, the likeliest first."""

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        shown = zip(self.classes, self.probabilities, strict=True)
        return {"label": self.classes[0], "classes": [{"label": name, "score": round(p, 6)} for name, p in shown]}

    def picture(self, image: Tensor) -> Tensor:
        return captioned(image, f"{self.classes[0]} {100 * self.probabilities[0]:.0f} %")


def _open_data(settings: ClassificationSettings) -> OpenData:
    data = classification_data(
        settings.data,
        train_transform=classification_training(
            settings.image_size, scale=_scale(settings), flip=settings.flip, jitter=settings.colour_jitter,
            crop=settings.crop, values=settings.values,
        ),
        test_transform=_evaluation(settings),
        problems=settings.problems,
        full=settings.full_check,
        workers=settings.workers,
    )  # fmt: skip
    return OpenData(data, classification_batches, classification_evaluation_batches, settings)


def _scale(settings: ClassificationSettings) -> tuple[float, float]:
    low, high = settings.crop_scale
    return low, high


def _evaluation(settings: ClassificationSettings) -> Any:
    side = settings.resize_side or round(settings.image_size * 8 / 7)
    return classification_evaluation(settings.image_size, side=side, values=settings.values)


def _network(settings: ClassificationSettings, classes: int, tell: Callable[[str], None]) -> nn.Module:
    network = classifier(**network_options(settings, classes, tell), image_size=settings.image_size)
    if settings.fuse:
        fuse(network, torch.zeros(2, 3, settings.image_size, settings.image_size), inplace=True)
    return network


def _predict(network: nn.Module, settings: ClassificationSettings, classes: tuple[str, ...], image: Tensor) -> Scores:
    seen, _ = _evaluation(settings)(tv_tensors.Image(image), 0)
    device = next(network.parameters()).device
    probabilities = network(seen[None].to(device)).float().softmax(1)[0]
    best = probabilities.topk(min(5, len(classes)))
    return Scores(tuple(classes[index] for index in best.indices.tolist()), tuple(best.values.tolist()))


CLASSIFICATION = Kind(ClassificationSettings, _open_data, _network, ClassificationExperiment, _predict, upright=True)
