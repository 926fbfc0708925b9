"""Images with boxes, from COCO or Pascal VOC, as torchvision's detection models take them; needs the extra vision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aconite.errors import DataError
from aconite.lab.data.boxes import Boxed, check_boxes
from aconite.lab.data.coco import is_coco, read_coco
from aconite.lab.data.image_files import read_image
from aconite.lab.data.on_disk import ImagesOnDisk, Transform, content_hash, evaluation_items, training_items
from aconite.lab.data.problems import Policy, Problem, check_policy, check_there, settle
from aconite.lab.data.transforms import detection_evaluation, detection_training, tv_tensors
from aconite.lab.data.voc import is_voc, read_voc

__all__ = ["DetectionData", "DetectionImages", "detection_batches", "detection_data", "detection_evaluation_batches"]


class DetectionImages(ImagesOnDisk):
    """Pairs (image, target).

    The image is a ``tv_tensors.Image`` (3, H, W), uint8 before the transform. The target holds ``boxes``
    (``tv_tensors.BoundingBoxes``, N×4, xyxy, float32), ``labels`` (N,) int64 from 1, ``area`` (N,) as annotated or of
    the box, in pixels of the file, ``iscrowd`` (N,) and ``image_id``, the image's index. ``iscrowd`` marks COCO's
    crowds and VOC's difficult objects, which only test images have.

    Args:
        images: what `detection_data` found usable.
        transform: of (image, target).
        problems: "skip" or "stop", for images that prove unreadable while they are read.
    """

    def __init__(self, images: Sequence[Boxed], transform: Transform | None, *, problems: Policy = "stop") -> None:
        super().__init__([image.image for image in images], transform, problems)
        self._sizes = [image.header.size for image in images]
        # flat tensors, not lists: a forked loading process copies every Python object that it looks at
        self._ends = torch.tensor([0, *(len(image.boxes) for image in images)]).cumsum(0)
        self._boxes = torch.tensor([box for image in images for box in image.boxes], dtype=torch.float32).view(-1, 4)
        self._labels = torch.tensor([label for image in images for label in image.labels], dtype=torch.int64)
        self._areas = torch.tensor([area for image in images for area in image.areas], dtype=torch.float32)
        self._crowds = torch.tensor([crowd for image in images for crowd in image.crowds], dtype=torch.int64)

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[index]

    def read(self, index: int) -> tuple[Any, dict[str, Any]]:
        image = tv_tensors.Image(read_image(self.paths[index]))
        if tuple(image.shape[1:]) != self._sizes[index]:
            raise ValueError(f"its size is {tuple(image.shape[1:])} now, and was {self._sizes[index]} at the start")
        own = slice(*self._ends[index : index + 2].tolist())
        boxes = self._boxes[own].clone()
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=self._sizes[index]),
            "labels": self._labels[own].clone(),
            "area": self._areas[own].clone(),
            "iscrowd": self._crowds[own].clone(),
            "image_id": index,
        }
        return image, target


@dataclass(frozen=True, eq=False)
class DetectionData:
    """A data set: class names (label k is ``classes[k − 1]``), its two parts, and what was left out of them.

    ``content`` is a hash of class names, file names and sizes, and boxes.
    """

    name: str
    classes: tuple[str, ...]
    train: DetectionImages
    test: DetectionImages
    problems: tuple[Problem, ...]
    content: str


def detection_data(
    folder: str | Path,
    *,
    train_transform: Transform | None = None,
    test_transform: Transform | None = None,
    problems: Policy = "stop",
    allow_empty: bool = False,
    full: bool = False,
    workers: int = 0,
) -> DetectionData:
    """A folder in one of COCO's layouts or Pascal VOC's, checked before anything is trained on it.

    Args:
        folder: which layout it has is found out.
        train_transform: default `detection_training`.
        test_transform: default `detection_evaluation`.
        problems: "stop" raises DataError with the list; "skip" leaves out the boxes and images that are wrong.
        allow_empty: train on images without objects too.
        full: decode every image now, not only its header and end.
        workers: processes that share the check.

    Raises:
        DataError: the folder is no such data set, nothing of a part can be used, or there are problems and the policy
            is "stop".
    """
    check_policy(problems)
    folder = Path(folder)
    check_there(folder)
    if not (is_voc(folder) or is_coco(folder)):
        raise DataError(f"{folder} is neither Pascal VOC nor COCO: see `aconite check-data {folder} --task detection`")
    source = (read_voc if is_voc(folder) else read_coco)(folder)
    parts, found = check_boxes(source, allow_empty=allow_empty, full=full, workers=workers)
    settle(found, problems, folder)
    for part, images in parts.items():
        if not images:
            raise DataError(f"{folder} has no usable image for {part}: `aconite check-data {folder}` tells why")
    train, test = parts.values()
    return DetectionData(
        name=folder.resolve().name,
        classes=source.classes,
        train=DetectionImages(train, train_transform or detection_training(), problems=problems),
        test=DetectionImages(test, test_transform or detection_evaluation(), problems=problems),
        problems=tuple(found),
        content=content_hash(source.classes, (_record(image) for image in [*train, *test])),
    )


def detection_batches(
    data: DetectionImages, batch_size: int, seed: int, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches ([image, …], [target, …]) for training, a function of (seed, epoch, index)."""
    return training_items(data, batch_size, seed, collate=_collate, workers=workers, rank=rank, ranks=ranks)


def detection_evaluation_batches(
    data: DetectionImages, batch_size: int, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches ([image, …], [target, …]) of all images in their order."""
    return evaluation_items(data, batch_size, collate=_collate, stacked=False, workers=workers, rank=rank, ranks=ranks)


def _collate(items: Sequence[tuple[Any, dict[str, Any]]]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Plain tensors: on a tv_tensor every operation of a model would pass through Python once more."""
    images = [image.as_subclass(Tensor) for image, _ in items]
    return images, [target | {"boxes": target["boxes"].as_subclass(Tensor)} for _, target in items]


def _record(image: Boxed) -> tuple[Any, ...]:
    return (
        image.image.name,
        image.header.byte_count,
        image.header.size,
        image.boxes,
        image.labels,
        image.crowds,
        image.areas,
    )
