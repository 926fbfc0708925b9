"""Classification data of Hugging Face's `datasets`, on disk or on the Hub; needs the extra datasets.

``hf:NAME`` or ``hf:NAME:CONFIG`` names them: a folder that ``save_to_disk`` has written, or whatever else
``datasets.load_dataset`` takes. ``#COLUMN`` at the end says which column is meant where several would do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aconite.errors import DataError, MissingExtraError
from aconite.lab.data.image_files import Probe, probe_each
from aconite.lab.data.labelled_files import LabelledFiles
from aconite.lab.data.problems import Problem
from aconite.lab.data.stored_image import StoredImage

__all__ = [
    "LAYOUT",
    "HuggingFaceData",
    "StoredImages",
    "check_hugging_face",
    "data_name",
    "is_hugging_face",
    "open_hugging_face",
]

LAYOUT = "Hugging Face"
_SIGN, _EVALUATION = "hf:", ("test", "validation", "val", "valid", "dev", "eval")
_HASHED = 1_000  # images of a part whose bytes the content hash looks at


class StoredImages(LabelledFiles):
    """The images of a split.

    Args:
        rows: see `StoredImage`.
        place: how the split is called in messages.
        labels: of all rows; -1 for none.
        chosen: the rows that are used.
    """

    def __init__(self, rows: Any, place: PurePosixPath, labels: Tensor, chosen: Tensor) -> None:
        super().__init__(labels[chosen])
        self._all, self._chosen, self._rows, self._place = labels, chosen, rows, place

    def file(self, index: int) -> StoredImage:
        return StoredImage.of(self._rows, self._place, int(self._chosen[index]))

    def without(self, wrong: set[PurePath]) -> StoredImages:
        """Those that are not wrong."""
        left_out = [int(path.name) for path in wrong if path.parent == self._place]
        chosen = self._chosen[~torch.isin(self._chosen, torch.tensor(left_out, dtype=torch.long))]
        return StoredImages(self._rows, self._place, self._all, chosen)

    def records(self) -> Iterator[Any]:
        """What the content hash is made of: all labels, and the bytes of some images, wherever they lie."""
        yield self._chosen.tolist(), self._labels.tolist()
        for path in self[:: max(1, -(-len(self) // _HASHED))]:
            try:
                with path.open("rb") as file:
                    yield hashlib.sha256(file.read()).hexdigest()
            except (OSError, ValueError):  # found again where it is read
                yield None


class HuggingFaceData(NamedTuple):
    """What was found, no image read: class names, the images of both parts, and what is wrong with their labels."""

    classes: tuple[str, ...]
    parts: dict[str, StoredImages]
    problems: list[Problem]


def is_hugging_face(data: str | Path) -> bool:
    """Whether the words name data of `datasets`."""
    return str(data).startswith(_SIGN)


def data_name(data: str | Path) -> str:
    """The last part of a data set's path or name, as rows and default folders have it.

    >>> data_name("../photos"), data_name("hf:uoft-cs/cifar100#fine_label")
    ('photos', 'cifar100-fine_label')
    """
    return re.sub("[:#]", "-", Path(str(data).removeprefix(_SIGN)).resolve().name)


def open_hugging_face(data: str) -> HuggingFaceData:
    """The data set, downloaded if it is on the Hub and not in the cache of `datasets`.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: it cannot be loaded, has no split for training or none with labels for evaluation, or its columns do
            not say which are the images and which the labels.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError("datasets", "datasets") from error
    name, _, column = data.removeprefix(_SIGN).partition("#")
    splits = _load(datasets, data, name)
    if "train" not in splits:
        raise DataError(f"{data} has no split train: its splits are {', '.join(splits)}")
    features = splits["train"].features
    kinds = datasets.Image, datasets.ClassLabel
    if column and not isinstance(features.get(column), kinds):
        raise DataError(
            f"{data}: {column} is no column of the type Image or ClassLabel, but there are {_told(features)}"
        )
    image, label = (_column(data, features, kind, column) for kind in kinds)
    classes = tuple(features[label].names)
    parts, problems = dict[str, StoredImages](), list[Problem]()
    for part in ("train", *(each for each in _EVALUATION if each in splits)):
        rows = splits[part]
        if any(rows.features.get(each) != features[each] for each in (image, label)):
            raise DataError(f"{data}: {part} has other columns or classes ({_told(rows.features)}) than train "
                            f"({_told(features)})")  # fmt: skip
        labels = torch.tensor([-1 if one is None else one for one in rows[label][:]], dtype=torch.long)
        if part != "train" and not (labels >= 0).any():  # as the tests of competitions are
            continue
        place = PurePosixPath(data, part)
        stored = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        parts[part] = StoredImages(stored, place, labels, (labels >= 0).nonzero().flatten())
        problems += [
            Problem("unknown-class", StoredImage.of(stored, place, row), "it has no label")
            for row in (labels < 0).nonzero().flatten().tolist()
        ]
        if len(parts) == 2:
            return HuggingFaceData(classes, parts, problems)
    raise DataError(
        f"{data} has no split for evaluation with labels (test or validation): its splits are {', '.join(splits)}; "
        "divide one by train_test_split and write both by save_to_disk"
    )


def check_hugging_face(found: HuggingFaceData, *, full: bool = False, workers: int = 0) -> list[Problem]:
    """Looks at every image of both parts; also what was known to be wrong before."""
    probes = [Probe(path, full) for images in found.parts.values() for path in images]
    return found.problems + [answer for answer in probe_each(probes, workers) if isinstance(answer, Problem)]


def _load(datasets: Any, data: str, name: str) -> dict[str, Any]:
    config = None
    if not Path(name).exists():
        name, _, config = name.partition(":")
    try:
        if (Path(name) / "dataset_dict.json").is_file() or (Path(name) / "state.json").is_file():
            loaded = datasets.load_from_disk(name)
        else:
            loaded = datasets.load_dataset(name, config or None)
    except Exception as error:  # whatever its readers and the Hub's client raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{data} is no folder here that can be read, nor a data set of the Hub: {reason}") from error
    return dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}


def _column(data: str, features: Any, kind: type, wanted: str) -> str:
    fitting = [str(name) for name, feature in features.items() if isinstance(feature, kind)]
    if wanted in fitting or len(fitting) == 1:
        return wanted if wanted in fitting else fitting[0]
    if fitting:
        raise DataError(f"{data} has several columns of the type {kind.__name__}, {', '.join(fitting)}: name one, such "
                        f"as {data}#{fitting[0]}, or remove the others")  # fmt: skip
    cast = "class_encode_column" if kind.__name__ == "ClassLabel" else "cast_column"
    raise DataError(f"{data} has no column of the type {kind.__name__}, but {_told(features)}: make one by {cast} of "
                    "datasets, and write the data by save_to_disk")  # fmt: skip


def _told(features: Any) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
