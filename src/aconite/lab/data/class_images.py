"""Images with labels, too many to hold in memory, ImageNet among them; needs the extra vision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aconite.errors import DataError
from aconite.lab.data.class_folders import check_class_folders, is_class_folders, list_class_folders
from aconite.lab.data.hugging_face import check_hugging_face, data_name, is_hugging_face, open_hugging_face
from aconite.lab.data.image_files import read_image
from aconite.lab.data.labelled_files import ClassFiles, LabelledFiles
from aconite.lab.data.on_disk import ImagesOnDisk, Transform, content_hash, evaluation_items, training_items
from aconite.lab.data.problems import Policy, Problem, check_policy, check_there, settle, shown
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
        files: their files and labels.
        transform: of (image, label).
        problems: "skip" or "stop", for images that prove unreadable while they are read.
    """

    paths: LabelledFiles

    def __init__(self, files: LabelledFiles, transform: Transform | None, *, problems: Policy = "stop") -> None:
        super().__init__(files, transform, problems)

    def size(self, index: int) -> tuple[int, int]:
        height, width = read_image(self.paths[index], upright=True).shape[1:]
        return height, width

    def read(self, index: int) -> tuple[Any, int]:
        return tv_tensors.Image(read_image(self.paths[index], upright=True)), self.paths.label(index)

    def _substitutes(self, index: int) -> Iterator[int]:
        """The images from the next one on: transforms give all of them one size."""
        return ((index + step) % len(self) for step in range(1, len(self)))


@dataclass(frozen=True, eq=False)
class ClassificationData:
    """A data set: class names (label k is ``classes[k]``), its two parts, and what was left out of them.

    ``content`` is a hash of class names and files: of folders the names, and the sizes of up to 10,000; of Hugging Face
    the labels, and the bytes of up to 2,000.
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
    seconds; or a data set of Hugging Face, see `aconite.lab.data.hugging_face`.

    Args:
        folder: of ImageNet, or of any classes; or ``hf:NAME``.
        train_transform: default `classification_training`.
        test_transform: default `classification_evaluation`.
        problems: "stop" raises DataError with the list; "skip" leaves out what is wrong.
        full: decode every image now.
        workers: processes that share the decoding.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the folder is no such data set, a part has no image in a class of the training part, as ImageNet's
            val before it is sorted, or there are problems and the policy is "stop".
    """
    check_policy(problems)
    source = (_hugging_face if is_hugging_face(folder) else _class_folders)(str(folder), full, workers)
    for part, files in source.parts.items():
        if not files:
            inside = (each for each in source.problems if PurePath(folder, part) in (each.path, *each.path.parents))
            why = next((f": {shown(first.path, Path(folder))}: {first.reason}" for first in inside), "")
            raise DataError(f"{folder} has no usable image for {part}{why}")
    settle(source.problems, problems, Path(folder))
    train, test = source.parts.values()
    return ClassificationData(
        name=data_name(folder),
        classes=source.classes,
        train=ClassImages(train, train_transform or classification_training(), problems=problems),
        test=ClassImages(test, test_transform or classification_evaluation(), problems=problems),
        problems=tuple(source.problems),
        content=content_hash(source.classes, iter(source.records)),
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


class _Source(NamedTuple):
    classes: tuple[str, ...]
    parts: Mapping[str, LabelledFiles]  # "train" and one for evaluation
    problems: list[Problem]
    records: Iterable[Any]  # what the content hash is made of


def _class_folders(name: str, full: bool, workers: int) -> _Source:
    folder = Path(name)
    check_there(folder)
    if not is_class_folders(folder):
        raise DataError(f"{folder} has no train/<class>/*: see `aconite check-data {folder} --task classification`")
    listing = list_class_folders(folder)
    found = check_class_folders(folder, full=True, workers=workers).problems if full else listing.problems
    wrong = {problem.path for problem in found}
    names = {
        part: {name: _sound(folder / part / name, files.get(name, []), wrong) for name in listing.classes}
        for part, files in listing.parts.items()
    }
    parts = {part: ClassFiles(folder / part, files) for part, files in names.items()}
    records = chain(*(files.items() for files in names.values()), _sizes(parts.values()))
    return _Source(listing.classes, parts, found, records)


def _hugging_face(name: str, full: bool, workers: int) -> _Source:
    found = open_hugging_face(name)
    problems = check_hugging_face(found, full=True, workers=workers) if full else found.problems
    parts = {part: images.without({each.path for each in problems}) for part, images in found.parts.items()}
    return _Source(found.classes, parts, problems, chain(*(images.records() for images in parts.values())))


def _sound(folder: Path, files: list[str], wrong: set[PurePath]) -> list[str]:
    return [name for name in files if folder / name not in wrong] if wrong else files


def _sizes(parts: Iterable[ClassFiles]) -> Iterator[int]:
    for files in parts:
        for index in range(0, len(files), max(1, 2 * len(files) // _SIZED)):
            yield files.file(index).stat().st_size
