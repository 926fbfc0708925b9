"""Labelled images for classification, held in memory whole, and the batches made of them.

Which image comes when, and how it is moved and mirrored, is a function of (seed, epoch, index) alone: a run that is
continued from the end of an epoch sees the same images as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["ImageData", "evaluation_batches", "shift_and_flip", "stratified_split", "training_batches"]

Draw = tuple[Tensor, Tensor, Tensor]  # index, shift, flip of each image of a batch


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set: uint8 images (N, C, H, W) and int64 labels (N,), split into train and test.

    ``flips`` says whether a mirrored image is still an image of its class (photographs: yes; digits: no).
    ``content`` is a hash of everything that training sees: class names, labels and pixels.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    flips: bool
    content: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", self._hash())

    @property
    def channels(self) -> int:
        return self.train_images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        return self.train_images.shape[2], self.train_images.shape[3]

    @property
    def reach(self) -> int:
        """By how many pixels training images are shifted at most, an eighth of the shorter side."""
        return min(self.image_size) // 8

    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over the training images, both (C,), of values in 0…255."""
        counts = torch.arange(256, dtype=torch.float64)
        means, deviations = [], []
        for channel in range(self.channels):  # a histogram needs no float copy of the data set
            histogram = torch.zeros(256, dtype=torch.float64)
            for images in torch.split(self.train_images, 4096):
                histogram += torch.bincount(images[:, channel].flatten(), minlength=256)
            share = histogram / histogram.sum()
            mean = (share * counts).sum()
            means.append(mean)
            deviations.append(((counts - mean).square() * share).sum().sqrt().clamp_min(1.0))
        return torch.stack(means).float(), torch.stack(deviations).float()

    def _hash(self) -> str:
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for tensor in (self.train_labels, self.test_labels, self.train_images, self.test_images):
            digest.update(str(tuple(tensor.shape)).encode())
            for piece in torch.split(tensor, 4096):
                digest.update(piece.numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"


def stratified_split(labels: Tensor, test_share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (train, test), both in rising order, with the same share of every class in the test part.

    >>> train, test = stratified_split(torch.tensor([0, 0, 0, 1, 1, 1]), test_share=1 / 3, seed=0)
    >>> len(train), len(test)
    (4, 2)
    """
    draws = torch.Generator().manual_seed(seed)
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        members = (labels == label).nonzero().flatten()
        chosen = torch.randperm(len(members), generator=draws)[: round(len(members) * test_share)]
        is_test[members[chosen]] = True
    return (~is_test).nonzero().flatten(), is_test.nonzero().flatten()


def shift_and_flip(images: Tensor, shifts: Tensor, flips: Tensor, reach: int) -> Tensor:
    """Each image of (N, C, H, W) moved by its own shift and, where ``flips`` (N,) says so, mirrored; 0 fills the edge.

    ``shifts`` (N, 2) holds numbers from 0 to 2·reach, down and across; reach itself leaves the image in its place.

    >>> shift_and_flip(torch.tensor([[[[1, 2, 3]]]]), torch.tensor([[1, 0]]), torch.tensor([True]), reach=1)
    tensor([[[[0, 3, 2]]]])
    """
    images = torch.where(flips[:, None, None, None], images.flip(-1), images)
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (reach,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2·reach+1, 2·reach+1, H, W), a view
    return windows[torch.arange(len(images), device=images.device), :, shifts[:, 0], shifts[:, 1]]


class _ShuffledBatches(Sampler[Draw]):
    """The batches of an epoch, from a generator that starts anew from (seed, epoch)."""

    def __init__(self, count: int, batch_size: int, seed: int, reach: int, flips: bool) -> None:
        self.count, self.batch_size, self.seed = count, min(batch_size, count), seed
        self.reach, self.flips, self.epoch = reach, flips, 0

    def set_epoch(self, epoch: int) -> None:  # Lightning calls this before each epoch
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        # torch's CPU generator takes 32 bits of a seed: hash, so that both numbers count
        digest = hashlib.sha256(f"order and augmentation {self.seed} {self.epoch}".encode()).digest()
        draws = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
        order = torch.randperm(self.count, generator=draws)
        shifts = torch.randint(2 * self.reach + 1, (self.count, 2), generator=draws)
        flips = (torch.rand(self.count, generator=draws) < 0.5) & self.flips
        for batch in torch.split(order, self.batch_size)[: len(self)]:
            yield batch, shifts[batch], flips[batch]


class _TrainingImages(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    def __init__(self, data: ImageData) -> None:
        self.data = data

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        index, shifts, flips = draw
        return self.data.train_images[index], self.data.train_labels[index], shifts, flips


class _TestImages(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, data: ImageData, batch_size: int) -> None:
        self.images = torch.split(data.test_images, batch_size)
        self.labels = torch.split(data.test_labels, batch_size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[number], self.labels[number]


def training_batches(data: ImageData, batch_size: int, seed: int) -> DataLoader[Any]:
    """Batches (images uint8, labels, shifts, flips), shuffled and augmented as a function of (seed, epoch, index)."""
    order = _ShuffledBatches(len(data.train_labels), batch_size, seed, data.reach, data.flips)
    return _whole_batches(_TrainingImages(data), order)


def evaluation_batches(data: ImageData, batch_size: int) -> DataLoader[Any]:
    """Batches (images uint8, labels) of the test images, in their order, none left out."""
    return _whole_batches(_TestImages(data, batch_size), None)


def _whole_batches(dataset: Dataset[Any], sampler: Sampler[Draw] | None) -> DataLoader[Any]:
    # A loader without a generator of its own draws from torch's global one at every epoch, which a resumed run does
    # at other moments than an uninterrupted one.
    return DataLoader(dataset, batch_size=None, sampler=sampler, generator=torch.Generator())
