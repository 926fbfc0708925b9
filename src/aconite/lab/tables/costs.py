"""What the rows of a table cost in time and memory, each relative to the ReLU row of its group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aconite.bench import Quantiles, quantiles, ratios, saved_bytes, take_turns
from aconite.errors import SettingsError
from aconite.lab.settings import CompareSettings
from aconite.lab.tables.memory import peak_bytes
from aconite.lab.tables.printed import PublishedRow, PublishedTable
from aconite.models import create
from aconite.nn import param_groups

__all__ = ["CostSettings", "NetworkCost", "measure_table_costs"]


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """How costs are measured: images in a batch and their side, seconds for each group and pass, and the device.

    ``device`` "auto" becomes the device that it stands for.

    Raises:
        SettingsError: a value that is not allowed.
    """

    batch_size: int = 16
    image_size: int = 224
    seconds: float = 10.0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise SettingsError(f"a batch of {self.batch_size} cannot be timed in training: write at least 2 images")
        if not 0 <= self.seconds < float("inf"):
            raise SettingsError(f"{self.seconds} seconds for the costs: expected a number from 0")
        object.__setattr__(self, "device", CompareSettings(device=self.device).resolved_device)


@dataclass(frozen=True)
class NetworkCost:
    """Times in ms and their ratios to the baseline's in the same round, as p20, p50, p80.

    ``peak_bytes`` is the most that training holds at one moment: parameters, their gradients and momentum, the batch,
    and what the second step makes on the way. ``saved_bytes`` is what a step's forward pass keeps for the backward
    pass, parameters left out.
    """

    training_ms: Quantiles
    training_ratio: Quantiles
    inference_ms: Quantiles
    inference_ratio: Quantiles
    peak_bytes: int
    peak_ratio: float
    saved_bytes: int
    saved_ratio: float


def measure_table_costs(
    table: PublishedTable, settings: CostSettings, tell: Callable[[str], None] = lambda text: None
) -> dict[PublishedRow, NetworkCost]:
    """The cost of every row. The networks of a group take turns, each round in a new random order."""
    costs: dict[PublishedRow, NetworkCost] = {}
    for group in dict.fromkeys(row.group for row in table.rows):
        rows = [row for row in table.rows if row.group == group]
        tell(f"measuring {', '.join(row.call for row in rows)}")
        costs |= _measure(rows, table.baseline(rows[0]), settings)
    return costs


def _measure(
    rows: Sequence[PublishedRow], baseline: PublishedRow, settings: CostSettings
) -> dict[PublishedRow, NetworkCost]:
    peak = {row: peak_bytes(partial(_train, row, settings), settings.device) for row in rows}
    images, labels = _batch(settings)
    networks = {row: _network(row, settings) for row in rows}
    saved = {row: _saved(network, images, labels) for row, network in networks.items()}
    names = {str(number): row for number, row in enumerate(rows)}
    steps = {name: _training(networks[row], images, labels) for name, row in names.items()}
    training = take_turns(steps, seconds=settings.seconds)
    passes = {name: _inference(networks[row], images) for name, row in names.items()}
    inference = take_turns(passes, seconds=settings.seconds)
    first = next(name for name, row in names.items() if row is baseline)
    return {
        row: NetworkCost(
            training_ms=quantiles([1e3 * seconds for seconds in training[name]]),
            training_ratio=ratios(training[name], training[first]),
            inference_ms=quantiles([1e3 * seconds for seconds in inference[name]]),
            inference_ratio=ratios(inference[name], inference[first]),
            peak_bytes=peak[row],
            peak_ratio=peak[row] / peak[baseline],
            saved_bytes=saved[row],
            saved_ratio=saved[row] / saved[baseline],
        )
        for name, row in names.items()
    }


def _batch(settings: CostSettings) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images = torch.randn(settings.batch_size, 3, settings.image_size, settings.image_size, device=settings.device)
    return images, torch.arange(settings.batch_size, device=settings.device)


def _network(row: PublishedRow, settings: CostSettings) -> nn.Module:
    return create(row.network, **row.options).to(settings.device)


def _train(row: PublishedRow, settings: CostSettings) -> None:
    """From nothing to the end of the second step, the first one that has momentum."""
    step = _training(_network(row, settings), *_batch(settings))
    step()
    step()


def _saved(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    owned = chain(network.parameters(), network.buffers(), (images, labels))
    return saved_bytes(lambda: F.cross_entropy(network(images), labels), owned)


def _training(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(param_groups(network.train(), 4e-5), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _inference(network: nn.Module, images: Tensor) -> Callable[[], None]:
    network.eval()

    def call() -> None:
        with torch.no_grad():
            network(images)

    return call
