"""Object detection by RetinaNet: focal loss and box regression; COCO's average precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aconite.lab.data.detection import detection_batches, detection_data, detection_evaluation_batches
from aconite.lab.data.transforms import detection_evaluation, detection_training
from aconite.lab.networks import retinanet
from aconite.lab.runs.experiment import Experiment, Figures
from aconite.lab.runs.kinds.average_precision import AveragePrecision
from aconite.lab.runs.kinds.drawing import class_colours, with_boxes
from aconite.lab.runs.kinds.kind import Kind, OpenData, Prediction, network_options
from aconite.lab.runs.settings import DetectionSettings
from aconite.surgery import fuse

__all__ = ["DETECTION", "Boxes", "DetectionExperiment"]

Batch = tuple[list[Tensor], list[dict[str, Any]]]


class DetectionExperiment(Experiment):
    """Metrics: those of `AveragePrecision`, in pixels of the images as they are on disk."""

    settings: DetectionSettings

    def __init__(self, network: nn.Module, settings: DetectionSettings, classes: tuple[str, ...]) -> None:
        super().__init__(network, settings, classes)
        self.precision = AveragePrecision(classes)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], int]:
        images, targets = batch
        parts: dict[str, Tensor] = self.network(images, targets)
        return torch.stack(list(parts.values())).sum(), parts, len(images)

    def measure(self, batch: Batch) -> None:
        images, targets = batch
        self.precision.add(self.network(images), targets)

    def measured(self) -> Figures:
        return self.precision.figures()


@dataclass(frozen=True, eq=False)
class Boxes(Prediction):
    """What was found in an image, the surest first: labels from 1, scores (N,), and boxes (N, 4), xyxy in pixels."""

    classes: tuple[str, ...]
    labels: Tensor
    scores: Tensor
    boxes: Tensor

    def above(self, score: float) -> Boxes:
        kept = self.scores >= score
        return Boxes(self.classes, self.labels[kept], self.scores[kept], self.boxes[kept])

    def record(self) -> dict[str, Any]:
        found = zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        return {
            "boxes": [
                {"label": self.classes[label - 1], "score": round(score, 6), "box": [round(side, 2) for side in box]}
                for label, score, box in found
            ]
        }

    def picture(self, image: Tensor) -> Tensor:
        colours = class_colours(len(self.classes))
        found = zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        return with_boxes(
            image,
            [(box, f"{self.classes[label - 1]} {score:.2f}", colours[label - 1]) for label, score, box in found],
        )


def _open_data(settings: DetectionSettings) -> OpenData:
    data = detection_data(
        settings.data,
        train_transform=detection_training(flip=settings.flip),  # the network resizes, and back, and normalises
        test_transform=detection_evaluation(),
        problems=settings.problems,
        allow_empty=settings.allow_empty,
        full=settings.full_check,
        workers=settings.workers,
    )
    return OpenData(data, detection_batches, detection_evaluation_batches, settings)


def _network(settings: DetectionSettings, classes: int, tell: Callable[[str], None]) -> nn.Module:
    network: Any = retinanet(
        **network_options(settings, classes, tell),
        everywhere=settings.everywhere,
        freeze_norms=settings.freeze_norms,
        freeze_stem=settings.freeze_stem,
        side=settings.side,
        longest=settings.longest,
        fpn_channels=settings.fpn_channels,
        head_convs=settings.head_convs,
        anchor_sizes=settings.anchor_sizes,
        box_beta=settings.box_beta,
    )
    if settings.fuse:
        fuse(network.backbone, torch.zeros(2, 3, 64, 64), inplace=True)
    return network  # type: ignore[no-any-return]


def _predict(network: nn.Module, settings: DetectionSettings, classes: tuple[str, ...], image: Tensor) -> Boxes:
    device = next(network.parameters()).device
    found = {name: value.cpu() for name, value in network([image.to(device) / 255])[0].items()}
    order = found["scores"].argsort(descending=True, stable=True)
    return Boxes(classes, found["labels"][order], found["scores"][order], found["boxes"][order])


DETECTION = Kind(DetectionSettings, _open_data, _network, DetectionExperiment, _predict)
