"""What a run has trained, ready for use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.checkpoints import damage, last_good_checkpoint
from aconite.lab.runs.folder import read_run
from aconite.lab.runs.kinds import Kind, kind_of
from aconite.lab.runs.recipes import resolve
from aconite.lab.runs.settings import RunSettings

__all__ = ["TrainedNetwork", "load_run"]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A run's network in eval mode, on its device.

    Attributes:
        kind: its task.
        settings: it was trained with; "data" and "weights" are paths as they were given then.
        classes: names, in the order of its scores.
        content: a hash of the data that it has learnt.
        network: images to what the task's network gives; see `aconite.lab.networks`.
    """

    kind: Kind
    settings: RunSettings
    classes: tuple[str, ...]
    content: str
    network: nn.Module


def load_run(
    folder: Path | str,
    checkpoint: Path | str | None = None,
    *,
    device: str = "auto",
    tell: Callable[[str], None] = print,
) -> TrainedNetwork:
    """The network of a finished run, or one of the states on its way.

    Args:
        folder: what `train` wrote.
        checkpoint: a file of its checkpoints.
        device: "auto" is CUDA if there is one, else the CPU.
        tell: hears what building the network has to say.

    Raises:
        CheckpointError: the folder holds no run, or an unfinished one; a file is damaged or of another network.
        SettingsError: the device is not there.
    """
    folder, place = Path(folder), _device(device)
    record = read_run(folder)
    kind = kind_of(record["task"])
    settings = resolve(record["task"], config=folder / "settings.toml")
    path = _weights(folder) if checkpoint is None else Path(checkpoint)
    state = _state(path)
    network = kind.network(replace(settings, weights=None), len(record["classes"]), tell)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds another network than that of {folder}: {_first_fault(error)}") from error
    return TrainedNetwork(kind, settings, tuple(record["classes"]), record["content"], network.eval().to(place))


def _weights(folder: Path) -> Path:
    path = folder / "weights.pt"
    if path.is_file():
        return path
    newest = last_good_checkpoint(folder / "checkpoints", lambda told: None)
    instead = f", or name a state on the way with --checkpoint {newest}" if newest else ""
    raise CheckpointError(
        f"the run in {folder} is not finished: `aconite train` with its settings finishes it{instead}"
    )


def _state(path: Path) -> dict[str, Tensor]:
    """The network's state dict in a file of weights or a checkpoint."""
    if not path.is_file():
        raise CheckpointError(f"there is no {path}: name a file of the run's folder checkpoints")
    if (reason := damage(path)) is not None:
        raise CheckpointError(f"{path} is damaged: {reason}")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content)
    prefix = "network." if "state_dict" in content else ""  # of Lightning's module, in a checkpoint
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _first_fault(error: RuntimeError) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[1:2])[:200]


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device is {name!r}: choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is cuda, but there is no CUDA device here: choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
