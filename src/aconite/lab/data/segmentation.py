"""Images with masks, from folders or Cityscapes, as segmentation networks take them; needs the extra vision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aconite.errors import DataError
from aconite.lab.data.cityscapes import is_cityscapes, read_cityscapes
from aconite.lab.data.image_files import Header, read_image, read_mask
from aconite.lab.data.masks import IGNORED, Masked, check_masks, is_masks, read_masks
from aconite.lab.data.on_disk import ImagesOnDisk, Transform, content_hash, evaluation_items, training_items
from aconite.lab.data.problems import Policy, Problem, check_policy, check_there, settle
from aconite.lab.data.transforms import segmentation_evaluation, segmentation_training, tv_tensors

__all__ = [
    "IGNORED",
    "SegmentationData",
    "SegmentationImages",
    "segmentation_batches",
    "segmentation_data",
    "segmentation_evaluation_batches",
]


class SegmentationImages(ImagesOnDisk):
    """Pairs (image, mask).

    The image is a ``tv_tensors.Image`` (3, H, W), uint8 before the transform, the mask a ``tv_tensors.Mask`` (H, W)
    int64 with labels from 0, and IGNORED (255) where there is none.

    Args:
        pairs: what `segmentation_data` found usable.
        table: (256,) int64: the label of each value of a file; IGNORED; −1 for what is no class.
        transform: of (image, mask).
        problems: "skip" or "stop", for what proves wrong while it is read; pixels of no class are ignored by "skip".
        known: problems that have been told, such as values of a mask, which is read all the same.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Masked, Header]],
        table: Tensor,
        transform: Transform | None,
        *,
        problems: Policy = "stop",
        known: Sequence[Problem] = (),
    ) -> None:
        super().__init__([pair.image for pair, _ in pairs], transform, problems)
        self._masks = [pair.mask for pair, _ in pairs]
        self._sizes = [header.size for _, header in pairs]
        self._table = table
        self.found = {problem.path: problem for problem in known}

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[index]

    def read(self, index: int) -> tuple[Any, Any]:
        image, values = read_image(self.paths[index]), read_mask(self._masks[index])
        if image.shape[1:] != values.shape:
            raise ValueError(f"its size is {tuple(image.shape[1:])}, and its mask's {tuple(values.shape)}")
        labels = self._table[values.clamp(0, 255)].masked_fill((values < 0) | (values > 255), -1)
        if (labels < 0).any():
            self.meet(index, Problem("mask-value", self._masks[index], "it holds values beyond the classes"))
            labels.masked_fill_(labels < 0, IGNORED)
        return tv_tensors.Image(image), tv_tensors.Mask(labels)


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """A data set: class names (label k is ``classes[k]``), its two parts, and what was left out of them.

    ``content`` is a hash of class names, and of the files' names and sizes.
    """

    name: str
    classes: tuple[str, ...]
    train: SegmentationImages
    test: SegmentationImages
    problems: tuple[Problem, ...]
    content: str


def segmentation_data(
    folder: str | Path,
    *,
    crop: int | tuple[int, int] = 473,
    train_transform: Transform | None = None,
    test_transform: Transform | None = None,
    ignore_index: int = IGNORED,
    problems: Policy = "stop",
    full: bool = False,
    workers: int = 0,
) -> SegmentationData:
    """A folder of images and masks, or Cityscapes, checked before anything is trained on it.

    Args:
        folder: which layout it has is found out.
        crop: side, or height and width, of the training crops.
        train_transform: default `segmentation_training` with ``crop``.
        test_transform: default `segmentation_evaluation`.
        ignore_index: the value of pixels that belong to no class in image and mask folders.
        problems: "stop" raises DataError with the list; "skip" leaves out the images that are wrong, and ignores
            pixels of no class.
        full: decode every image and mask now, not only header and end.
        workers: processes that share the check.

    Raises:
        DataError: the folder is no such data set, nothing of a part can be used, or there are problems and the policy
            is "stop".
    """
    check_policy(problems)
    folder = Path(folder)
    check_there(folder)
    if is_cityscapes(folder):
        source = read_cityscapes(folder)
    elif is_masks(folder):
        source = read_masks(folder, ignore_index)
    else:
        raise DataError(f"{folder} holds neither train/images and train/masks nor leftImg8bit and gtFine (Cityscapes)")
    classes, parts, found = check_masks(source, decode_masks=full, full=full, workers=workers)
    settle(found, problems, folder)
    for part, pairs in parts.items():
        if not pairs:
            raise DataError(f"{folder} has no usable image for {part}: `aconite check-data {folder}` tells why")
    train, test = parts.values()
    train_change, test_change = (
        train_transform or segmentation_training(crop),
        test_transform or segmentation_evaluation(),
    )
    return SegmentationData(
        name=folder.resolve().name,
        classes=classes,
        train=SegmentationImages(train, source.table, train_change, problems=problems, known=found),
        test=SegmentationImages(test, source.table, test_change, problems=problems, known=found),
        problems=tuple(found),
        content=content_hash(classes, (_record(*pair) for pair in [*train, *test])),
    )


def segmentation_batches(
    data: SegmentationImages, batch_size: int, seed: int, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches (images (N, 3, H, W), masks (N, H, W)) for training, a function of (seed, epoch, index)."""
    return training_items(data, batch_size, seed, collate=_collate, workers=workers, rank=rank, ranks=ranks)


def segmentation_evaluation_batches(
    data: SegmentationImages, batch_size: int, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches of all images in their order; where the images' sizes change, a batch is smaller."""
    return evaluation_items(data, batch_size, collate=_collate, stacked=True, workers=workers, rank=rank, ranks=ranks)


def _collate(items: Sequence[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
    images, masks = ([entry.as_subclass(Tensor) for entry in column] for column in zip(*items, strict=True))
    return torch.stack(images), torch.stack(masks)


def _record(pair: Masked, header: Header) -> tuple[Any, ...]:
    return pair.image.name, header.byte_count, header.size, pair.mask.stat().st_size
