"""Which model and which data an inspection is of: a training of a run folder, or a model by its name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aconite.errors import CheckpointError, SettingsError, UnknownNameError
from aconite.lab.checkpoints import last_good_checkpoint
from aconite.lab.data import ImageData, load
from aconite.lab.inspection.own_model import is_network, named_model, with_weights
from aconite.lab.settings import CompareSettings
from aconite.lab.training import Cell, new_task

__all__ = ["Subject", "subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that takes normalised images, with the data to show it."""

    name: str
    model: nn.Module
    data: ImageData


def subject(
    model: str,
    data: str | None = None,
    *,
    cell: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    tell: Callable[[str], None] = print,
) -> Subject:
    """The model and the data that two words of a command line name.

    Args:
        model: the folder of a comparison; or a network of `aconite.models.create` with its options, such as
            "resnet18:activation=acon-c", fitted to the data where they are missing; or ``package.module:name`` of a
            `torch.nn.Module`, or of a function without arguments that returns one. Modules are also looked for in the
            current folder.
        data: as in `CompareSettings`; a run folder's own unless given, where that is a named data set.
        cell: which training of the folder, such as "acon-c-seed0"; its only one unless given.
        weights: a file of weights for a model that is no run's, of ``torch.save`` or safetensors, by the model's own
            names or by those of the public reference code; nothing but tensors is read from it.
        image_size: as in `CompareSettings`, for a model that is no run's.
        tell: is told of damaged checkpoints.

    Raises:
        SettingsError: there is no such object, it is no module, or data are needed.
        CheckpointError: the folder holds no run, or no whole checkpoint of the cell; or the weights are damaged.
        StateDictError: the weights are another model's.
        UnknownNameError: the folder has no such cell.
        DataError: the data cannot be used as they are.
    """
    if Path(model).is_dir():
        if weights is not None:
            raise SettingsError(
                f"{model} is a run with checkpoints of its own: leave the weights out, or name a network"
            )
        return _from_run(Path(model), data, cell, tell)
    if ":" not in model and not is_network(model):
        raise SettingsError(
            f"no model at {model}: name a folder that `aconite compare` wrote, a network such as "
            "resnet18:activation=acon-c, or package.module:function; a file of weights goes behind --weights"
        )
    if data is None:
        raise SettingsError("which data? write digits, mnist5k, or a folder of images behind the model")
    images = load(data, image_size)
    made = named_model(model, images)
    if weights is None:
        return Subject(model, made, images)
    return Subject(f"{model} with {Path(weights).name}", with_weights(made, weights), images)


def _from_run(run: Path, data: str | None, cell: str | None, tell: Callable[[str], None]) -> Subject:
    try:
        stored = json.loads((run / "run.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{run} is no run folder: {run / 'run.json'} cannot be read ({error})") from error
    known = {field.name for field in dataclasses.fields(CompareSettings)}
    given: dict[str, Any] = {name: value for name, value in stored.items() if name in known}
    given |= {"activations": tuple(stored["activations"]), "device": "cpu", "data": data or stored["data"]}
    settings = CompareSettings(**given)
    images = load(settings.data, settings.image_size)
    cells = (Cell(seed, activation) for activation in settings.activations for seed in range(settings.seeds))
    begun = {one.name: one for one in cells if (run / "checkpoints" / one.name).is_dir()}
    if cell is None and len(begun) != 1:
        raise SettingsError(f"{run} holds {len(begun)} trainings: choose one with --cell: {', '.join(begun) or 'none'}")
    chosen = cell or next(iter(begun))
    if chosen not in begun:
        raise UnknownNameError("cell", chosen, begun)
    path = last_good_checkpoint(run / "checkpoints" / chosen, tell)
    if path is None:
        raise CheckpointError(f"{chosen} in {run} has no checkpoint that is whole: start the comparison again")
    task = new_task(begun[chosen], settings, images)
    try:
        task.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{path} does not fit these data ({images.name}, {len(images.classes)} classes, {images.channels} colour "
            f"channels): name those of the run, {stored['data']}"
        ) from error
    return Subject(f"{chosen}, {settings.model}, {path.stem}", task.network, images)
