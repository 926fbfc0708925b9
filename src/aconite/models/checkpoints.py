"""Weights of the paper's public reference code: what its networks call the parts that ours have."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from aconite.errors import SettingsError, StateDictError
from aconite.models.registry import layout, list_models
from aconite.models.resnet import ResNet
from aconite.models.shufflenetv2 import ShuffleNetV2
from aconite.models.tfnet import TFNet
from aconite.models.weight_files import read_weights
from aconite.nn import published_state_dict

__all__ = ["load_reference", "reference_state_dict"]

_Model = TypeVar("_Model", bound=nn.Module)


# ---- the names


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Our module to the reference code's, in a network and in one of its blocks; parameters are called alike."""

    network: Mapping[str, str]
    block: Mapping[str, str]
    place: str
    """Where a block is: its ``index`` in the network, or its ``stage`` from 1 and ``position`` there."""


def _numbered(theirs: str, ours: str) -> dict[str, str]:
    """The members, in order, of a Sequential of theirs."""
    return {name: f"{theirs}.{number}" for number, name in enumerate(ours.split())}


_ENDS = {
    **_numbered("first_conv", "stem.conv stem.norm stem.act"),
    **_numbered("conv_last", "head.conv head.norm head.act"),
    **_numbered("classifier", "classifier"),
}

_FAMILIES: Mapping[type[nn.Module], _Names] = {
    ShuffleNetV2: _Names(
        network=_ENDS,
        place="features.{index}",
        block={
            **_numbered(
                "branch_main",
                "main.0.conv main.0.norm main.0.act main.1.conv main.1.norm main.2.conv main.2.norm main.2.act",
            ),
            **_numbered(
                "branch_proj", "shortcut.0.conv shortcut.0.norm shortcut.1.conv shortcut.1.norm shortcut.1.act"
            ),
        },
    ),
    TFNet: _Names(
        network=_ENDS,
        place="features.{index}",
        block={
            **_numbered("branch_main", "main.0.conv main.0.norm main.0.act main.1.conv main.1.norm"),
            "act": "acon",
        },
    ),
    ResNet: _Names(
        network={"stem.conv": "conv1", "stem.norm": "bn1", "classifier": "fc"},
        place="layer{stage}.{position}",
        block={
            **{"main.0.conv": "conv1", "main.0.norm": "bn1", "main.1.conv": "conv2", "main.1.norm": "bn2"},
            **{"main.0.act": "acon1", "act": "acon2"},  # basic blocks
            **{"main.1.act": "acon", "main.2.conv": "conv3", "main.2.norm": "bn3"},  # bottlenecks
            **_numbered("downsample", "shortcut.conv shortcut.norm"),
        },
    ),
}

# The entry that gives an activation away; Meta-ACON has p1 as well and comes first.
_SIGNS = {".fc2.weight": "meta-acon", ".p1": "acon-c", ".conv_frelu.weight": "acon-frelu"}


def _theirs(model: nn.Module) -> dict[str, str]:
    """Each state-dict entry's name in the reference code."""
    names = next((names for family, names in _FAMILIES.items() if isinstance(model, family)), None)
    if names is None:
        known = ", ".join(family.__name__ for family in _FAMILIES)
        raise SettingsError(
            f"the reference code's networks are {known}, not {type(model).__name__}: give what aconite.models.create "
            "returns for one of them"
        )
    modules, index = dict(names.network), 0
    for stage, blocks in enumerate(model.stages):  # type: ignore[arg-type]
        for position in range(len(blocks)):
            place = names.place.format(index=index, stage=stage + 1, position=position)
            modules |= {
                f"stages.{stage}.{position}.{ours}": f"{place}.{theirs}" for ours, theirs in names.block.items()
            }
            index += 1
    return {key: _renamed(key, modules) for key in model.state_dict()}


def _renamed(key: str, modules: Mapping[str, str]) -> str:
    module = key
    while module and module not in modules:
        module = module.rpartition(".")[0]
    if not module:
        raise SettingsError(f"the reference code's network has nothing like {key}: create yours without se=True")
    return modules[module] + key.removeprefix(module)


# ---- in and out


def reference_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The network's state dict under the names and in the shapes of the public reference code, which loads it.

    Raises:
        SettingsError: the network is none that the reference code has.

    >>> import aconite
    >>> network = aconite.models.create("tfnet_0_5", activation="acon-frelu")
    >>> list(reference_state_dict(network))[-2:]
    ['classifier.0.weight', 'classifier.0.bias']
    """
    state, theirs = published_state_dict(model), _theirs(model)
    return {theirs[key]: value for key, value in state.items()}


def load_reference(model: _Model, checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> _Model:
    """Load a checkpoint of the public reference code into the same network of ours, and return the network.

    ===================  ==========================================  ==============
    reference folder     network                                     activation
    ===================  ==========================================  ==============
    ShuffleNetV2_ACON    shufflenetv2_x0_5, …x1_0, …x1_5, …x2_0      "acon-c"
    ShuffleNet_MetaACON  the same                                    "meta-acon"
    ResNet_ACON          resnet18, resnet50, resnet101, resnet152    "acon-c"
    ResNet_MetaACON      resnet50, resnet101, resnet152              "meta-acon"
    TFNet                tfnet_0_5, tfnet_1_0, tfnet_1_5, tfnet_2_0  "acon-frelu"
    ===================  ==========================================  ==============

    ``checkpoint`` is a state dict, or a dict that has one under ``"state_dict"``, or the path of a file of
    ``torch.save`` or safetensors that holds either; nothing but tensors is read from it. Names may begin with
    ``module.``, as `torch.nn.DataParallel` writes them. Every entry must be there, with its shape: either all weights
    are loaded or none. The networks expect images as `ReferencePreprocessing` makes them.

    Raises:
        StateDictError: the checkpoint is not of this network; the message lists what is missing, unknown or of another
            shape, or says which network it is of.
        CheckpointError: the file is missing or damaged.
        MissingExtraError: the file is of safetensors, which is not installed.
        SettingsError: the network is none that the reference code has.

    >>> import aconite
    >>> network = aconite.models.create("shufflenetv2_x0_5", activation="acon-c")
    >>> theirs = {f"module.{name}": value for name, value in reference_state_dict(network).items()}
    >>> load_reference(network, {"state_dict": theirs}) is network
    True
    """
    expected, theirs = reference_state_dict(model), _theirs(model)
    given = _state_dict(checkpoint if isinstance(checkpoint, Mapping) else read_weights(checkpoint))
    if _shapes(given) != _shapes(expected):
        raise StateDictError(_misfit(model, given, expected))
    model.load_state_dict({ours: given[name] for ours, name in theirs.items()})
    return model


def _state_dict(content: Mapping[str, Any]) -> dict[str, Tensor]:
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not state:
        raise StateDictError(f"this checkpoint holds no weights: expected tensors by name, got {state!r:.80}")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise StateDictError(
                f"this checkpoint holds a {type(value).__name__} under {key!r}: expected tensors by name, or such a "
                'state dict under "state_dict"'
            )
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in state.items()}


# ---- what does not fit


def _misfit(model: nn.Module, given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    network = type(model).__name__
    if given.keys() == model.state_dict().keys():
        return "this checkpoint has this library's names: load it with model.load_state_dict"
    if (call := _fitting_call(given)) is not None:
        return f"this checkpoint does not fit the given {network}: it belongs to {call}"
    shapes = (
        f"  {key}: {tuple(given[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in given and given[key].shape != value.shape
    )
    parts = {
        "missing in the checkpoint": _grouped(key for key in expected if key not in given),
        "unknown to the network": _grouped(key for key in given if key not in expected),
        "of another shape": list(shapes),
    }
    lists = (f"{title}:\n" + "\n".join(lines) for title, lines in parts.items() if lines)
    return f"this checkpoint does not fit the given {network}\n" + "\n".join(lists)


def _grouped(keys: Iterable[str]) -> list[str]:
    """A line for each module, like blocks together: ``features.(1, 2, 3).branch_main.2: p1, p2, beta``."""
    modules: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        module, _, entry = key.rpartition(".")
        modules[module].append(entry)
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module, members in modules.items():
        place, number = module, ""
        if block := re.fullmatch(r"(\w+)\.(\d+)\.(.+)", module):
            place, number = f"{block[1]}.*.{block[3]}", block[2]
        places[place, ", ".join(members)].append(number)
    lines = []
    for (place, entries), numbers in places.items():
        which = numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"
        lines.append(f"  {place.replace('*', which)}: {entries}")
    return lines


def _fitting_call(given: Mapping[str, Tensor]) -> str | None:
    """The call of `create` whose network has exactly these names and shapes."""
    activation = next((name for end, name in _SIGNS.items() if any(key.endswith(end) for key in given)), None)
    sizes = next(filter(None, (_sizes(given, names.network) for names in _FAMILIES.values())), None)
    if activation is None or sizes is None:
        return None
    for name in list_models():
        network = layout(name, activation, **sizes)
        if isinstance(network, tuple(_FAMILIES)) and _shapes(reference_state_dict(network)) == _shapes(given):
            counts = ", ".join(f"{size}={value}" for size, value in sizes.items())
            return f"aconite.models.create({name!r}, activation={activation!r}, {counts})"
    return None


def _sizes(given: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, int] | None:
    stem, classifier = (given.get(f"{names[end]}.weight") for end in ("stem.conv", "classifier"))
    if stem is None or classifier is None or stem.ndim != 4 or classifier.ndim != 2:
        return None
    return {"num_classes": classifier.shape[0], "in_channels": stem.shape[1]}
