"""The shape of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.data import DataLoader

from aconite.lab.runs.experiment import Experiment
from aconite.lab.runs.settings import RunSettings

__all__ = ["Kind", "OpenData", "Prediction", "network_options"]


@dataclass(frozen=True, eq=False)
class OpenData:
    """A data set that has been looked at, and the batches made of it.

    Attributes:
        found: the data set of ``aconite.lab.data`` for the task: name, classes, train, test, problems, content.
        batches: what makes a process's batches of an epoch.
        evaluation_batches: what makes a process's share of the test images.
        settings: of the run.
    """

    found: Any
    batches: Callable[..., DataLoader[Any]]
    evaluation_batches: Callable[..., DataLoader[Any]]
    settings: RunSettings

    def training(self, batch_size: int, rank: int = 0, ranks: int = 1) -> DataLoader[Any]:
        """Batches of an epoch, a function of (seed, epoch, index); a process has its ``rank`` of ``ranks``."""
        seed, workers = self.settings.seed, self.settings.workers
        return self.batches(self.found.train, batch_size, seed, workers=workers, rank=rank, ranks=ranks)

    def evaluation(self, batch_size: int, rank: int = 0, ranks: int = 1) -> DataLoader[Any]:
        """A process's share of the test images, in their order."""
        return self.evaluation_batches(
            self.found.test, batch_size, workers=self.settings.workers, rank=rank, ranks=ranks
        )


class Prediction(ABC):
    """What a network says about one image.

    Attributes:
        mask: the class of each pixel, (H, W) uint8, if that is what it says.
    """

    mask: Tensor | None = None

    def above(self, score: float) -> Self:
        """Without boxes of a lower score."""
        return self

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """For a file: numbers and words only."""

    @abstractmethod
    def picture(self, image: Tensor) -> Tensor:
        """The image (3, H, W), uint8, with the prediction drawn into it."""


@dataclass(frozen=True)
class Kind:
    """A task: what makes its data, network, training and predictions.

    Attributes:
        settings: the record of its settings.
        open_data: settings → data, looked at.
        network: settings, number of classes, what to tell the user → the untrained network.
        experiment: its training.
        predict: network, settings, classes, an image (3, H, W) of uint8 → what the network says about it.
        upright: whether its data's images are turned as EXIF tells; where boxes or masks count, they lie as stored.
    """

    settings: type[RunSettings]
    open_data: Callable[[Any], OpenData]
    network: Callable[[Any, int, Callable[[str], None]], nn.Module]
    experiment: type[Experiment]
    predict: Callable[[nn.Module, Any, tuple[str, ...], Tensor], Prediction]
    upright: bool = False


def network_options(settings: RunSettings, classes: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """What the networks of all tasks are told; a task adds its own."""
    return {
        "model": settings.model,
        "activation": settings.activation,
        "classes": classes,
        "init": settings.init,
        "se": settings.se,
        "weights": settings.weights,
        "weights_stage": settings.weights_stage,
        "tell": tell,
    }
