"""Files of images with their labels, a million of them in little memory."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from aconite.lab.data.stored_image import ImageFile

__all__ = ["ClassFiles", "LabelledFiles"]


class LabelledFiles(Sequence[ImageFile], ABC):
    """A sequence of files, and the label of each; a path is made when it is asked for."""

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels

    @abstractmethod
    def file(self, index: int) -> ImageFile:
        """The file at an index from 0 on."""

    def __len__(self) -> int:
        return len(self._labels)

    @overload
    def __getitem__(self, index: int) -> ImageFile: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageFile]: ...
    def __getitem__(self, index: int | slice) -> ImageFile | list[ImageFile]:
        places = range(len(self))[index]
        return self.file(places) if isinstance(places, int) else [self.file(at) for at in places]

    def label(self, index: int) -> int:
        """The number of the image's class."""
        return int(self._labels[index])


class ClassFiles(LabelledFiles):
    """The files of class folders: one string and numbers, since a million paths would take 400 MB in each loading
    process.

    Args:
        part: the folder of the class folders.
        files: of each class, in the order of the labels, the names in its folder.
    """

    def __init__(self, part: Path, files: dict[str, list[str]]) -> None:
        names = [os.fsencode(name) for members in files.values() for name in members]
        self._part, self._classes = part, list(files)
        self._names = b"".join(names)
        self._ends = torch.tensor([0, *accumulate(map(len, names))])
        counts = torch.tensor([len(members) for members in files.values()])
        super().__init__(torch.repeat_interleave(torch.arange(len(counts)), counts))

    def file(self, index: int) -> Path:
        start, end = self._ends[index : index + 2].tolist()
        return self._part / self._classes[self.label(index)] / os.fsdecode(self._names[start:end])
