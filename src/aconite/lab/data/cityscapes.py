"""Cityscapes: ``leftImg8bit/<part>/<city>/*_leftImg8bit.png`` and ``gtFine/<part>/<city>/*_gtFine_labelIds.png``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from aconite.errors import DataError
from aconite.lab.data.masks import IGNORED, Masked, MaskSource
from aconite.lab.data.problems import Problem

__all__ = ["CLASSES", "is_cityscapes", "read_cityscapes"]

_TRAIN_IDS = {  # the 19 classes that count, and what labelIds calls them
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
_LAST_ID, _LICENSE_PLATE = 33, 255  # the plate is −1, which an 8-bit file holds as 255
CLASSES = tuple(_TRAIN_IDS)

_IMAGE_END, _MASK_END = "_leftImg8bit.png", "_gtFine_labelIds.png"


def is_cityscapes(folder: Path) -> bool:
    """Whether the folder is laid out as Cityscapes."""
    return (folder / "leftImg8bit").is_dir() and (folder / "gtFine").is_dir()


def read_cityscapes(folder: Path) -> MaskSource:
    """The parts train and val; labelIds become the 19 training labels, everything else is ignored.

    Raises:
        DataError: a part is missing.
    """
    problems: list[Problem] = []
    parts = {part: list(_pairs(folder, part, problems)) for part in ("train", "val")}
    return MaskSource("Cityscapes", CLASSES, _table(), parts, problems)


def _table() -> Tensor:
    table = torch.full((256,), -1)
    table[: _LAST_ID + 1] = IGNORED
    table[_LICENSE_PLATE] = IGNORED
    table[list(_TRAIN_IDS.values())] = torch.arange(len(_TRAIN_IDS))
    return table


def _pairs(folder: Path, part: str, problems: list[Problem]) -> Iterator[Masked]:
    images, masks = folder / "leftImg8bit" / part, folder / "gtFine" / part
    if not images.is_dir():
        raise DataError(f"{folder} has no leftImg8bit/{part}: unpack leftImg8bit_trainvaltest there")
    seen = set()
    for image in sorted(images.glob(f"*/*{_IMAGE_END}")):
        seen.add(mask := masks / image.parent.name / image.name.replace(_IMAGE_END, _MASK_END))
        if mask.is_file():
            yield Masked(image, mask)
        else:
            problems.append(Problem("no-annotation", image, f"there is no {mask.relative_to(folder).as_posix()}"))
    for mask in sorted(set(masks.glob(f"*/*{_MASK_END}")) - seen):
        problems.append(Problem("missing-file", mask, "there is a mask, but no image of that name"))
