"""Images in folders of classes, too many to hold in memory, ImageNet among them; needs the extra vision."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aconite.errors import DataError
from aconite.lab.data.class_folders import check_class_folders, is_class_folders, list_class_folders
from aconite.lab.data.image_files import read_image
from aconite.lab.data.on_disk import ImagesOnDisk, Transform, content_hash, evaluation_items, training_items
from aconite.lab.data.problems import Policy, Problem, check_policy, settle, shown
from aconite.lab.data.transforms import classification_evaluation, classification_training, tv_tensors

__all__ = [
    "ClassImages",
    "ClassificationData",
    "classification_batches",
    "classification_data",
    "classification_evaluation_batches",
]

_SIZED = 10_000  # files whose size the content hash looks at


class ClassImages(ImagesOnDisk):
    """Pairs (image, label): the image a ``tv_tensors.Image`` (3, H, W), upright, uint8 before the transform.

    Args:
        part: the folder of the class folders.
        files: of each class, in the order of the labels, the names in its folder.
        transform: of (image, label).
        problems: "skip" or "stop", for images that prove unreadable while they are read.
    """

    paths: _Paths

    def __init__(
        self, part: Path, files: dict[str, list[str]], transform: Transform | None, *, problems: Policy = "stop"
    ) -> None:
        super().__init__(_Paths(part, files), transform, problems)

    def size(self, index: int) -> tuple[int, int]:
        height, width = read_image(self.paths[index], upright=True).shape[1:]
        return height, width

    def read(self, index: int) -> tuple[Any, int]:
        return tv_tensors.Image(read_image(self.paths[index], upright=True)), self.paths.label(index)

    def _substitutes(self, index: int) -> Iterator[int]:
        """The images from the next one on: transforms give all of them one size."""
        return ((index + step) % len(self) for step in range(1, len(self)))


class _Paths(Sequence[Path]):
    """Paths as one string and numbers: as objects a million would take 400 MB in each loading process."""

    def __init__(self, part: Path, files: dict[str, list[str]]) -> None:
        names = [os.fsencode(name) for members in files.values() for name in members]
        self._part, self._classes = part, list(files)
        self._names = b"".join(names)
        self._ends = torch.tensor([0, *accumulate(map(len, names))])
        counts = torch.tensor([len(members) for members in files.values()])
        self._labels = torch.repeat_interleave(torch.arange(len(counts)), counts)

    def __len__(self) -> int:
        return len(self._labels)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at = range(len(self))[index]
        start, end = self._ends[at : at + 2].tolist()
        return self._part / self._classes[self.label(at)] / os.fsdecode(self._names[start:end])

    def label(self, index: int) -> int:
        """The number of the image's class."""
        return int(self._labels[index])


@dataclass(frozen=True, eq=False)
class ClassificationData:
    """A data set: class names (label k is ``classes[k]``), its two parts, and what was left out of them.

    ``content`` is a hash of class names, the files' names, and the bytes of up to 10,000 of them.
    """

    name: str
    classes: tuple[str, ...]
    train: ClassImages
    test: ClassImages
    problems: tuple[Problem, ...]
    content: str


def classification_data(
    folder: str | Path,
    *,
    train_transform: Transform | None = None,
    test_transform: Transform | None = None,
    problems: Policy = "stop",
    full: bool = False,
    workers: int = 0,
) -> ClassificationData:
    """A folder ``train/<class>/*`` and ``test/<class>/*`` (or ``val``), listed but not opened: 1.3 million files in
    seconds.

    Args:
        folder: of ImageNet, or of any classes.
        train_transform: default `classification_training`.
        test_transform: default `classification_evaluation`.
        problems: "stop" raises DataError with the list; "skip" leaves out what is wrong.
        full: decode every image now.
        workers: processes that share the decoding.

    Raises:
        DataError: the folder is no such data set, a part has no image in a class of the training part, as ImageNet's
            val before it is sorted, or there are problems and the policy is "stop".
    """
    check_policy(problems)
    folder = Path(folder)
    if not is_class_folders(folder):
        raise DataError(f"{folder} has no train/<class>/*: see `aconite check-data {folder} --task classification`")
    listing = list_class_folders(folder)
    found = check_class_folders(folder, full=True, workers=workers).problems if full else listing.problems
    wrong = {problem.path for problem in found}
    parts = {
        part: {name: _sound(folder / part / name, files.get(name, []), wrong) for name in listing.classes}
        for part, files in listing.parts.items()
    }
    for part, files in parts.items():
        if not any(files.values()):
            first = next(problem for problem in found if folder / part in (problem.path, *problem.path.parents))
            raise DataError(f"{folder} has no usable image for {part}: {shown(first.path, folder)}: {first.reason}")
    settle(found, problems, folder)
    (train_part, train_files), (test_part, test_files) = parts.items()
    train = ClassImages(
        folder / train_part, train_files, train_transform or classification_training(), problems=problems
    )
    test = ClassImages(folder / test_part, test_files, test_transform or classification_evaluation(), problems=problems)
    return ClassificationData(
        name=folder.resolve().name,
        classes=listing.classes,
        train=train,
        test=test,
        problems=tuple(found),
        content=content_hash(listing.classes, _records(train_files, test_files, train.paths, test.paths)),
    )


def classification_batches(
    data: ClassImages, batch_size: int, seed: int, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches (images (N, 3, H, W), labels (N,)) for training, a function of (seed, epoch, index)."""
    return training_items(data, batch_size, seed, collate=_collate, workers=workers, rank=rank, ranks=ranks)


def classification_evaluation_batches(
    data: ClassImages, batch_size: int, *, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches of all images in their order."""
    return evaluation_items(data, batch_size, collate=_collate, stacked=False, workers=workers, rank=rank, ranks=ranks)


def _collate(items: Sequence[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*items, strict=True)
    return torch.stack([image.as_subclass(Tensor) for image in images]), torch.tensor(labels)


def _sound(folder: Path, files: list[str], wrong: set[Path]) -> list[str]:
    return [name for name in files if folder / name not in wrong] if wrong else files


def _records(
    train_files: dict[str, list[str]], test_files: dict[str, list[str]], *parts: Sequence[Path]
) -> Iterator[Any]:
    yield from train_files.items()
    yield from test_files.items()
    for paths in parts:
        for index in range(0, len(paths), max(1, 2 * len(paths) // _SIZED)):
            yield paths[index].stat().st_size
