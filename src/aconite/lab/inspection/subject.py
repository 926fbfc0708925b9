"""Which model and which data an inspection is of: a training of a run folder, or an object of the user's own code."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aconite.errors import CheckpointError, SettingsError, UnknownNameError
from aconite.lab.checkpoints import last_good_checkpoint
from aconite.lab.data import ImageData, load
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
    image_size: int | None = None,
    tell: Callable[[str], None] = print,
) -> Subject:
    """The model and the data that two words of a command line name.

    Args:
        model: the folder of a comparison; or ``package.module:name`` of a `torch.nn.Module`, or of a function without
            arguments that returns one. Modules are also looked for in the current folder.
        data: as in `CompareSettings`; a run folder's own unless given, where that is a named data set.
        cell: which training of the folder, such as "acon-c-seed0"; its only one unless given.
        image_size: as in `CompareSettings`, for a model of one's own.
        tell: is told of damaged checkpoints.

    Raises:
        SettingsError: there is no such object, it is no module, or data are needed.
        CheckpointError: the folder holds no run, or no whole checkpoint of the cell.
        UnknownNameError: the folder has no such cell.
        DataError: the data cannot be used as they are.
    """
    if Path(model).is_dir():
        return _from_run(Path(model), data, cell, tell)
    if ":" not in model:
        raise SettingsError(
            f"no model at {model}: name a folder that `aconite compare` wrote, or package.module:function"
        )
    if data is None:
        raise SettingsError("which data? write digits, mnist5k, or a folder of images behind the model")
    return Subject(model, _from_code(model), load(data, image_size))


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


def _from_code(name: str) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise SettingsError(f"cannot import {module_name}: {error}") from error
    except AttributeError as error:
        raise SettingsError(
            f"{module_name} has no {attribute!r}; name a module or a function that returns one"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    made = found if isinstance(found, nn.Module) else found() if callable(found) else found
    if not isinstance(made, nn.Module):
        raise SettingsError(f"{name} gives a {type(made).__name__}, expected a torch.nn.Module")
    return made
