"""Images that are read when they are needed, in an order and augmented as only (seed, epoch, index) decide.

A run that is continued sees the same images, changed in the same way, as one that was never interrupted, with any
number of loading processes.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import PurePath
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from aconite.errors import DataError
from aconite.lab.data.problems import Policy, Problem, check_policy
from aconite.lab.data.stored_image import ImageFile

__all__ = ["ImagesOnDisk", "Shuffled", "content_hash", "evaluation_items", "training_items"]

Draw = tuple[int, int]  # index of an image, seed of its augmentation
Transform = Callable[[Any, Any], Any]


class ImagesOnDisk(Dataset[tuple[Any, Any]], ABC):
    """The part that all tasks share; a task says what the paths are and what `read` gives.

    Item ``(index, seed)`` is the same whenever it is asked for, and leaves torch's generator as it was. Item ``index``
    is for transforms without chance: one with chance draws from torch's generator as it stands.

    Args:
        paths: the images.
        transform: of (image, target); see `aconite.lab.data.transforms`.
        problems: what happens if an image proves unreadable in the middle of a run. "skip" puts the next readable one
            (of the same size, if there is one) in its place, warns, and adds to ``found``; "stop" raises DataError.

    Attributes:
        found: problems met while reading, by this process, and those known before.
        met: 1 for each image of which a problem was met that was not known before, by any of the loading processes.
    """

    def __init__(self, paths: Sequence[ImageFile], transform: Transform | None, problems: Policy) -> None:
        check_policy(problems)
        self.paths, self.transform, self.policy = paths, transform, problems
        self.found: dict[PurePath, Problem] = {}
        self.met = torch.zeros(len(paths), dtype=torch.uint8)

    @abstractmethod
    def read(self, index: int) -> tuple[Any, Any]:
        """Image and target, before the transform; raises what the image's decoder raises."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image before the transform."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: int | Draw) -> tuple[Any, Any]:
        index, seed = draw if isinstance(draw, tuple) else (draw, None)
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        item = self._readable(index % len(self))
        if self.transform is None:
            return item
        if seed is None:
            return tuple(self.transform(*item))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would set a GPU's generator as well
            return tuple(self.transform(*item))

    def _readable(self, index: int) -> tuple[Any, Any]:
        for at in chain([index], self._substitutes(index)):
            try:
                return self.read(at)
            except (MemoryError, DataError):
                raise
            except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them into
                self.meet(at, Problem("unreadable-image", self.paths[at], str(error) or type(error).__name__))
        raise DataError(f"none of the {len(self)} images can be read; the first is {self.paths[0]}")

    def _substitutes(self, index: int) -> Iterator[int]:
        """The other images from the next one on; first those of the same size, so that a batch can be stacked."""
        others = [(index + step) % len(self) for step in range(1, len(self))]
        yield from sorted(others, key=lambda other: self.size(other) != self.size(index))

    def meet(self, index: int, problem: Problem) -> None:
        """Stops at a problem of an image, or notes it and warns once, as the policy says."""
        told = f"{problem.path}: {problem.reason}"
        if self.policy == "stop":
            raise DataError(f"{told}; replace it, or go on without it by problems skip")
        if problem.path not in self.found:
            self.found[problem.path] = problem
            self.met[index] = 1
            warnings.warn(f"skipped {told}", stacklevel=2)


class Shuffled(Sampler[Draw]):
    """Every image once an epoch, in an order from (seed, epoch); of several processes each takes its share."""

    def __init__(self, count: int, seed: int, rank: int, ranks: int) -> None:
        self.count, self.seed, self.rank, self.ranks = count, seed, rank, ranks
        self.epoch = self.seen = 0

    def set_epoch(self, epoch: int) -> None:  # Lightning calls this before each epoch
        if epoch != self.epoch:
            self.epoch, self.seen = epoch, 0

    def go_on(self, epoch: int, seen: int) -> None:
        """In the middle of an epoch, of which this process has had ``seen`` images; none of them is read again."""
        self.epoch, self.seen = epoch, seen

    def __len__(self) -> int:
        return self.count // self.ranks  # the same for all: a process with one batch more would wait for the others

    def __iter__(self) -> Iterator[Draw]:
        draws = torch.Generator().manual_seed(_seed(f"order {self.seed} {self.epoch}"))
        order = torch.randperm(self.count, generator=draws).tolist()
        for index in order[self.rank :: self.ranks][self.seen : len(self)]:
            yield index, _seed(f"augmentation {self.seed} {self.epoch} {index}")


class _SizeBatches(Sampler[list[int]]):
    """All images in their order; a batch ends where the next image has another size, so that a batch can be stacked."""

    def __init__(self, data: ImagesOnDisk, batch_size: int, stacked: bool, rank: int, ranks: int) -> None:
        self.batches = list[list[int]]()
        for index in range(rank, len(data), ranks):
            last = self.batches[-1] if self.batches else []
            if last and len(last) < batch_size and (not stacked or data.size(last[0]) == data.size(index)):
                last.append(index)
            else:
                self.batches.append([index])

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def training_items(
    data: ImagesOnDisk, batch_size: int, seed: int, *, collate: Any, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches of an epoch, shuffled and augmented as a function of (seed, epoch, index).

    An incomplete last batch is left out. ``loader.sampler.set_epoch(epoch)`` chooses the epoch. With several training
    processes each names its ``rank`` of ``ranks``: the sampler divides the images itself.
    """
    order = Shuffled(len(data), seed, rank, ranks)
    return _loader(
        data, collate, workers, batch_size=min(batch_size, max(1, len(order))), sampler=order, drop_last=True
    )


def evaluation_items(
    data: ImagesOnDisk, batch_size: int, *, collate: Any, stacked: bool, workers: int = 0, rank: int = 0, ranks: int = 1
) -> DataLoader[Any]:
    """Batches of all images in their order; ``stacked``: no batch mixes sizes."""
    return _loader(data, collate, workers, batch_sampler=_SizeBatches(data, batch_size, stacked, rank, ranks))


def _loader(data: ImagesOnDisk, collate: Any, workers: int, **order: Any) -> DataLoader[Any]:
    if workers:
        data.met.share_memory_()  # type: ignore[no-untyped-call]
    return DataLoader(data, collate_fn=collate, num_workers=workers, generator=torch.Generator(), **order)


def content_hash(classes: Sequence[str], records: Iterator[Any]) -> str:
    """A hash of class names and of what is known of each image without reading it: names, bytes, size, objects."""
    digest = hashlib.sha256("\0".join(classes).encode())
    for record in records:
        digest.update(f"{record!r}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _seed(text: str) -> int:
    # torch's CPU generator takes 32 bits of a seed: hash, so that all numbers count
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
