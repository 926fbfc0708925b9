"""COCO's average precision of boxes, over all images of all processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, distributed

from aconite.errors import MissingExtraError

__all__ = ["AveragePrecision"]

_SHOWN = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
_BACKENDS: tuple[Literal["faster_coco_eval", "pycocotools"], ...] = ("faster_coco_eval", "pycocotools")


class AveragePrecision:
    """Collects what was found and what was there, image by image, and measures them together.

    The figures are "map" (the mean over classes and over IoU of 0.5, 0.55, …, 0.95), "map_50", "map_75", those of
    objects below 32², up to 96² and above 96² pixels, and "ap/NAME" of each class. What no object tells, such as the
    precision of a class that no image shows, is NaN, and no mean counts it. A crowd is neither asked for, nor does a
    box within it count as a mistake.

    Args:
        classes: names; label k is ``classes[k − 1]``.

    Raises:
        MissingExtraError: neither faster-coco-eval nor pycocotools is installed.

    >>> meter = AveragePrecision(("cat", "dog"))
    >>> box, cat = torch.tensor([[0.0, 0.0, 40.0, 40.0]]), torch.tensor([1])
    >>> there = {"boxes": box, "labels": cat, "iscrowd": torch.tensor([0]), "area": torch.tensor([1600.0])}
    >>> meter.add([{"boxes": box, "labels": cat, "scores": torch.tensor([0.9])}], [there | {"image_id": 0}])
    >>> {name: round(value, 3) for name, value in meter.figures().items()}["map_medium"]
    1.0
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        if not (backends := [name for name in _BACKENDS if find_spec(name)]):
            raise MissingExtraError("faster-coco-eval", "vision")
        self.backend = backends[0]
        self._seen: list[tuple[int, Mapping[str, Tensor], Mapping[str, Tensor]]] = []

    def add(self, found: Sequence[Mapping[str, Tensor]], there: Sequence[Mapping[str, Any]]) -> None:
        """Boxes, labels and scores of some images, and their targets as `aconite.lab.data.detection` makes them."""
        for boxes, target in zip(found, there, strict=True):
            kept = {name: target[name].cpu() for name in ("boxes", "labels", "iscrowd", "area")}
            self._seen.append((target["image_id"], {name: value.cpu() for name, value in boxes.items()}, kept))

    def figures(self) -> dict[str, float]:
        """The precision of all images since the last call; asked of every process together."""
        from torchmetrics.detection import MeanAveragePrecision

        # In the images' order equal scores rank as in one process. (torchmetrics' own gathering needs processes with
        # equally many images.)
        images = sorted(_of_all_processes(self._seen), key=lambda image: image[0])
        self._seen = []
        metric = MeanAveragePrecision(
            backend=self.backend, extended_summary=True, sync_on_compute=False, distributed_available_fn=_alone
        )
        metric.warn_on_many_detections = False  # COCO counts the hundred surest of each class
        metric.update([dict(found) for _, found, _ in images], [dict(there) for _, _, there in images])
        values = metric.compute()
        named = {name: _value(values[name]) for name in _SHOWN}
        # IoU, recall, class, size, number of detections; COCO marks what does not exist by −1
        every = values["precision"][:, :, :, 0, -1] if "precision" in values else torch.empty(0, 0, 0)
        classes = values["classes"].reshape(-1).tolist()
        of_class = {label: _value(every[..., at].mean()) for at, label in enumerate(classes) if every.numel()}
        return named | {f"ap/{name}": of_class.get(label, math.nan) for label, name in enumerate(self.classes, 1)}


def _of_all_processes(own: list[Any]) -> list[Any]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return own
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, own)
    return [image for part in gathered for image in part]


def _alone() -> bool:
    return False


def _value(value: Tensor) -> float:
    return math.nan if value < 0 else float(value)
