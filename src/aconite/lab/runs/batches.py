"""Each process's share of the data, and how long the training is."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from aconite.errors import SettingsError
from aconite.lab.data.on_disk import ImagesOnDisk, Shuffled
from aconite.lab.runs.kinds import OpenData
from aconite.lab.runs.settings import RunSettings

__all__ = ["Batches"]


class Batches(pl.LightningDataModule):
    """Asked for its loaders once the processes know each other.

    An epoch has as many steps on one device as on eight: the images that do not fill a step are left out, others in
    each epoch. So the number of steps says which images have been seen.

    Attributes:
        of_an_epoch: backward passes of each process in an epoch.
        epochs: of the training; ``steps`` may cut the last one short.
    """

    def __init__(self, data: OpenData, settings: RunSettings) -> None:
        super().__init__()
        self.data, self.settings = data, settings
        images = len(data.found.train)
        if images < settings.batch_size:
            raise SettingsError(
                f"batch_size {settings.batch_size} is more than the {images} training images: choose a smaller "
                "--batch-size"
            )
        self._steps_of_an_epoch = images // settings.batch_size
        self.of_an_epoch = self._steps_of_an_epoch * settings.accumulate
        self.epochs = settings.epochs or math.ceil((settings.steps or 0) / self._steps_of_an_epoch)

    def check(self, ranks: int) -> None:
        """Whether so many processes can share the work.

        Raises:
            SettingsError: they cannot.
        """
        shares = ranks * self.settings.accumulate
        if self.settings.batch_size % shares:
            raise SettingsError(
                f"batch_size {self.settings.batch_size} cannot be divided into {shares} equal batches ({ranks} "
                f"devices, accumulate {self.settings.accumulate}): choose a multiple of {shares}"
            )
        if (images := len(self.data.found.test)) < ranks:
            raise SettingsError(f"{images} test images are too few for {ranks} devices: choose fewer --devices")

    def train_dataloader(self) -> DataLoader[Any]:
        rank, ranks = self._place()
        share = self._share(ranks)
        loader = self.data.training(share, rank, ranks)
        assert self.trainer is not None
        assert isinstance(loader.sampler, Shuffled)
        epoch, steps = divmod(self.trainer.global_step, self._steps_of_an_epoch)
        # here, before Lightning tells the sampler its epoch: loading processes begin to read as soon as they are there
        loader.sampler.go_on(epoch, steps * self.settings.accumulate * share)
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        rank, ranks = self._place()
        return self.data.evaluation(self._share(ranks), rank, ranks)

    def state_dict(self) -> dict[str, Any]:
        return {"met": self.met()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, indices in zip(self._parts(), state_dict["met"], strict=True):
            part.met[indices] = 1

    def met(self) -> list[list[int]]:
        """Of each part the images with a problem that any process has met so far; asked of every process together."""
        assert self.trainer is not None
        strategy = self.trainer.strategy
        marks = (part.met.to(strategy.root_device, copy=True) for part in self._parts())
        return [strategy.reduce(each, reduce_op="max").nonzero().flatten().tolist() for each in marks]

    def _parts(self) -> tuple[ImagesOnDisk, ImagesOnDisk]:
        return self.data.found.train, self.data.found.test

    def _place(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size

    def _share(self, ranks: int) -> int:
        """Images of one backward pass of one process."""
        return self.settings.batch_size // (ranks * self.settings.accumulate)
