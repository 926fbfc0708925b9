"""Semantic segmentation by PSPNet: cross-entropy of pixels; mean IoU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from aconite.lab.data.segmentation import (
    IGNORED,
    segmentation_batches,
    segmentation_data,
    segmentation_evaluation_batches,
)
from aconite.lab.data.transforms import segmentation_evaluation, segmentation_training
from aconite.lab.networks import pspnet
from aconite.lab.runs.experiment import Experiment, Figures
from aconite.lab.runs.kinds.drawing import class_colours, with_regions
from aconite.lab.runs.kinds.kind import Kind, OpenData, Prediction, network_options
from aconite.lab.runs.kinds.pixel_scores import pixel_scores
from aconite.lab.runs.settings import SegmentationSettings
from aconite.surgery import fuse

__all__ = ["SEGMENTATION", "Regions", "SegmentationExperiment"]

Batch = tuple[Tensor, Tensor]


class SegmentationExperiment(Experiment):
    """Metrics, of all labelled pixels of the test images as they are on disk: "iou/NAME" of each class, which is its
    pixels rightly found over those that are there or were found; "miou", their mean; "pixel_accuracy", the share of
    pixels that are right. A class of which no test image has a pixel has no value (NaN) and is not in the mean.
    """

    settings: SegmentationSettings

    def __init__(self, network: nn.Module, settings: SegmentationSettings, classes: tuple[str, ...]) -> None:
        super().__init__(network, settings, classes)
        self.confusion = MulticlassConfusionMatrix(len(classes), ignore_index=IGNORED, validate_args=False)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], int]:
        images, masks = batch
        scores = self.network(images)
        if not isinstance(scores, tuple):
            return _cross_entropy(scores, masks), {}, len(images)
        main, auxiliary = (_cross_entropy(each, masks) for each in scores)
        return main + self.settings.auxiliary * auxiliary, {"main": main, "auxiliary": auxiliary}, len(images)

    def measure(self, batch: Batch) -> None:
        images, masks = batch
        self.confusion.update(_scores(self.network, self.settings, images, masks.shape[1:]).argmax(1), masks)

    def measured(self) -> Figures:
        counts = self.confusion.compute().double()  # of each class (row) taken for each (column)
        self.confusion.reset()
        right, there, found = counts.diag(), counts.sum(1), counts.sum(0)
        iou = (right / (there + found - right)).where(there > 0, math.nan)
        figures = {"miou": float(iou.nanmean()), "pixel_accuracy": float(right.sum() / there.sum())}
        return figures | {f"iou/{name}": value for name, value in zip(self.classes, iou.tolist(), strict=True)}


def _cross_entropy(scores: Tensor, masks: Tensor) -> Tensor:
    """The mean over the pixels that have a label; 0 if none has."""
    total = F.cross_entropy(scores, masks, ignore_index=IGNORED, reduction="sum")
    return total / (masks != IGNORED).sum().clamp(min=1)


def _scores(network: nn.Module, settings: SegmentationSettings, images: Tensor, size: Any) -> Tensor:
    """The classes' scores at the pixels of masks of the size (height, width), of which ``images`` may be a smaller
    copy.
    """
    window = None if settings.window is None else _pair(settings.window)
    scores = pixel_scores(network, images, window=window, flipped=settings.evaluate_flipped)
    return scores if scores.shape[-2:] == size else F.interpolate(scores.float(), size, mode="bilinear")


@dataclass(frozen=True, eq=False)
class Regions(Prediction):
    """The class of each pixel: mask (H, W), uint8, from 0."""

    classes: tuple[str, ...]
    mask: Tensor

    def record(self) -> dict[str, Any]:
        shares = self.mask.flatten().bincount(minlength=len(self.classes)) / self.mask.numel()
        found = sorted(zip(shares.tolist(), self.classes, strict=True), key=lambda entry: -entry[0])
        return {"shares": {name: round(share, 6) for share, name in found if share}}

    def picture(self, image: Tensor) -> Tensor:
        named = zip(self.classes, class_colours(len(self.classes)), strict=True)
        return with_regions(image, self.mask, dict(enumerate(named)))


def _open_data(settings: SegmentationSettings) -> OpenData:
    data = segmentation_data(
        settings.data,
        train_transform=segmentation_training(
            _pair(settings.crop),
            scale=_pair(settings.scale),
            rotation=settings.rotation,
            flip=settings.flip,
            turn=settings.turn,
            blur=settings.blur,
        ),
        test_transform=partial(_image_alone, segmentation_evaluation(settings.evaluation_side)),
        ignore_index=settings.ignore_index,
        problems=settings.problems,
        full=settings.full_check,
        workers=settings.workers,
    )
    return OpenData(data, segmentation_batches, segmentation_evaluation_batches, settings)


def _image_alone(change: Callable[[Any], Any], image: Any, mask: Any) -> tuple[Any, Any]:
    """The mask stays as it is: what is measured does not depend on the size at which the network looks."""
    return change(image), mask


def _pair(values: tuple[Any, ...]) -> tuple[Any, Any]:
    first, second = values
    return first, second


def _network(settings: SegmentationSettings, classes: int, tell: Callable[[str], None]) -> nn.Module:
    network = pspnet(
        **network_options(settings, classes, tell),
        everywhere=settings.everywhere,
        freeze_norms=settings.freeze_norms,
        auxiliary=settings.auxiliary > 0,
        bins=settings.bins,
        width=settings.head_width,
        dropout=settings.dropout,
    )
    if settings.fuse:
        fuse(network, torch.zeros(2, 3, 65, 65), inplace=True)
    return network


def _predict(network: nn.Module, settings: SegmentationSettings, classes: tuple[str, ...], image: Tensor) -> Regions:
    seen = segmentation_evaluation(settings.evaluation_side)(image)[None]
    scores = _scores(network, settings, seen.to(next(network.parameters()).device), image.shape[1:])
    return Regions(classes, scores[0].argmax(0).to(torch.uint8).cpu())


SEGMENTATION = Kind(SegmentationSettings, _open_data, _network, SegmentationExperiment, _predict)
