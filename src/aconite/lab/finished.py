"""What finished comparisons and checkpoints hold, in the shapes that `aconite.report` draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aconite.errors import CheckpointError, SettingsError, UnknownNameError
from aconite.lab.checkpoints import damage
from aconite.lab.rows import Row
from aconite.report import LayerParameters

__all__ = ["checkpoint_layers", "errors_by_network", "finished_cell", "learnt_beta", "learnt_layers", "training_errors"]

_Path = str | PathLike[str]
Errors = dict[str, dict[str, list[float]]]
Curves = dict[str, list[list[float]]]


def training_errors(run: _Path) -> tuple[Curves, Curves]:
    """A comparison's train and test error after each epoch: activation → seeds → epochs, as `training_curves` takes it.

    Raises:
        CheckpointError: the folder holds no finished training.
    """
    train: Curves = {}
    test: Curves = {}
    for row in _cells(Path(run)):
        train.setdefault(row["activation"], []).append(row["train_errors"])
        test.setdefault(row["activation"], []).append(row["test_errors"])
    return train, test


def errors_by_network(runs: Sequence[_Path]) -> Errors:
    """The last epoch's test errors of several comparisons: network → activation → seeds, for `network_errors`. Where
    the runs' data differ, they are named beside the network.

    Raises:
        CheckpointError: a folder holds no finished training.
        SettingsError: two runs have the same network and data.
    """
    rows = {Path(run): _cells(Path(run)) for run in runs}
    several = len({row["data"] for found in rows.values() for row in found}) > 1
    errors: Errors = {}
    for run, found in rows.items():
        network = found[0]["model"] + (f" on {found[0]['data']}" if several else "")
        if network in errors:
            raise SettingsError(f"{run} is a second run of {network}: name each network once")
        errors[network] = {}
        for row in found:
            errors[network].setdefault(row["activation"], []).append(row["error"])
    return errors


def learnt_layers(path: _Path, cell: str | None = None) -> dict[str, LayerParameters]:
    """What the layers' channels have learnt, for `activation_curves`.

    Args:
        path: a checkpoint of any training with torch, for all its layers that have a β of their own; or a
            comparison's folder, for the three layers that each finished training keeps (Meta-ACON's at its mean β).
        cell: which training of the folder, such as "acon-c-seed0"; the first that learnt an activation unless given.

    Raises:
        CheckpointError: no such file, a damaged one, or none with such layers.
        UnknownNameError: the folder has no such cell.
    """
    path = Path(path)
    if not path.is_dir():
        return checkpoint_layers(path)
    found = finished_cell(path, cell)["learnt"]
    return {title: LayerParameters(**values) for title, values in found["layers"].items()}


def learnt_beta(run: _Path, cell: str | None = None) -> dict[str, list[float]]:
    """β in the last layer of a finished training, for `beta_histograms`: ACON's for all images, Meta-ACON's for each of
    seven.

    Raises:
        CheckpointError: the folder holds no finished training that learnt an activation.
        UnknownNameError: the folder has no such cell.
    """
    beta: dict[str, list[float]] = finished_cell(Path(run), cell)["learnt"]["beta"]
    return beta


def checkpoint_layers(path: _Path) -> dict[str, LayerParameters]:
    """The p1, p2 and β of every layer in a checkpoint or state dict, by the layer's name; ACON-A has p1 = 1, p2 = 0.

    Raises:
        CheckpointError: the file is missing, damaged, or has no β as a parameter.
    """
    path = Path(path)
    if (reason := damage(path)) is not None:
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    values = {name: value.double().flatten() for name, value in state.items() if isinstance(value, Tensor)}
    layers = {}
    for name, beta in values.items():
        prefix, _, leaf = name.rpartition(".")
        if leaf == "beta":
            parts = (values.get(f"{prefix}.{slope}".lstrip("."), torch.tensor(at)) for slope, at in _FIXED)
            p1, p2 = (part.expand(len(beta)) for part in parts)
            layers[prefix.removeprefix("network.") or "layer"] = LayerParameters(
                p1.tolist(), p2.tolist(), beta.tolist()
            )
    if not layers:
        generated = " (Meta-ACON generates β: name the run's folder instead)" * any("fc2" in name for name in values)
        raise CheckpointError(f"{path} holds no layer with a learnt β{generated}")
    return layers


_FIXED = (("p1", 1.0), ("p2", 0.0))


def finished_cell(run: Path, cell: str | None = None) -> Any:
    """The content of a finished training's file, of one that learnt an activation: its row, and what was learnt.

    Raises:
        CheckpointError: the folder holds no such training.
        UnknownNameError: the folder has no such cell.
    """
    names = [path.stem for path in _paths(run)]
    if cell is not None and cell not in names:
        raise UnknownNameError("cell", cell, names)
    for name in names if cell is None else [cell]:
        content = _read(run / "cells" / f"{name}.json")
        if content["learnt"] and content["learnt"]["layers"]:
            return content
    raise CheckpointError(
        f"{run}: {f'{cell} has not' if cell else 'no training has'} learnt p1, p2 or β; there are {', '.join(names)}"
    )


def _paths(run: Path) -> list[Path]:
    if paths := sorted((run / "cells").glob("*.json")):
        return paths
    raise CheckpointError(f"{run} holds no finished training: name the folder that `aconite compare` wrote (--out)")


def _cells(run: Path) -> list[Row]:
    rows: list[Row] = [_read(path)["row"] for path in _paths(run)]
    order = {name: at for at, name in enumerate(rows[0]["settings"]["activations"])}
    return sorted(rows, key=lambda row: (order[row["activation"]], row["seed"]))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path} ({error}): start the comparison again, it repeats this") from error
    return content
