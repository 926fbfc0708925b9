"""Pretrained weights: a file's tensors matched with a network's, and what may be left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aconite.errors import SettingsError, StateDictError
from aconite.lab.networks.choice import Choice
from aconite.models import read_weights
from aconite.nn import ChannelModule

__all__ = ["Stage", "load_weights", "with_weights"]

Stage = Literal["before", "after"]
_HOLDERS = ("state_dict", "model")  # under which checkpoints keep the tensors
_OURS = "network."  # in checkpoints of our runs, which also hold metrics
_PREFIXES = (_OURS, "module.", "model.")  # the others are DataParallel's and those of other people's Lightning modules
_STEM = "stem.conv.weight"  # of our networks
_LISTED = 8


def with_weights(
    choice: Choice,
    build: Callable[[Choice], nn.Module],
    path: str | os.PathLike[str] | None,
    stage: Stage,
    *,
    body: str | None = None,
) -> nn.Module:
    """What ``build`` makes of the choice, with the weights of a file.

    Args:
        choice: the model and its activation.
        build: makes the network.
        path: None for no file.
        stage: see `aconite.lab.networks.classifier`.
        body: where the network holds a body of the model, for which the file of a classification network serves too:
            the prefix of its names. None if the network is the classification network.
    """
    if stage not in ("before", "after"):
        raise SettingsError(f"weights_stage={stage!r}: expected 'before' or 'after' the model gets its activation")
    if stage == "before":
        choice = replace(choice, init="match")
    network = build(choice)
    if path is None:
        return network
    stock, dropped = set[str](), set[str]()
    if body is not None and choice.source == "timm":
        body += "model."  # as timm's feature maps call it
    with torch.random.fork_rng(devices=[]):
        if stage == "before":
            stock = {*build(choice.stock()).state_dict()}
        if body is not None:
            dropped = _dropped(choice.stock().whole(classes=2), network, body)
    own = network.state_dict().keys()
    may_miss = own - stock if stage == "before" else ()
    if left_out := load_weights(network, path, may_miss=may_miss, body=body, dropped=dropped):
        choice.tell(f"{os.fspath(path)}: left out {_listed(left_out)}")
    return network


def load_weights(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    may_miss: Collection[str] = (),
    body: str | None = None,
    dropped: Collection[str] = (),
) -> tuple[str, ...]:
    """Load a file of ``torch.save`` or safetensors: a state dict, or a checkpoint that holds one. Returns the names of
    what was left out: class scores for another number of classes, and parts that the network has not.

    Args:
        network: its layers of class scores keep their values where the file's are for another number of classes.
        path: the file.
        may_miss: entries that the file need not have.
        body: the prefix under which a file of a classification network belongs.
        dropped: paths of that network's modules which the body has not.

    Raises:
        CheckpointError: the file is missing or damaged.
        StateDictError: something else is missing, unexpected or of another shape; the message lists it.
    """
    given, own = _named(read_weights(path)), network.state_dict()
    optional = {*may_miss, *(key for key in own if key.endswith("num_batches_tracked"))}  # old files lack these counts
    left_out = set[str]()
    if body is not None and not (body and any(key.startswith(body) for key in given)):
        left_out = {key for key in given if any(key == part or key.startswith(f"{part}.") for part in dropped)}
        given = {key if key in left_out else body + key: value for key, value in given.items()}
        optional |= {key for key in own if not key.startswith(body)}
    for layer in _score_layers(network, body):
        if _of_other_classes(given.get(f"{layer}.weight"), own.get(f"{layer}.weight")):
            left_out |= {f"{layer}.weight", f"{layer}.bias"}
    wanted = {key: value for key, value in given.items() if key not in left_out}
    faults = {
        "missing": [key for key in own if key not in wanted and key not in optional | left_out],
        "unexpected": [key for key in wanted if key not in own],
    }
    if not any(faults.values()):
        try:
            network.load_state_dict(wanted, strict=False)
        except RuntimeError as error:  # a heading, then a line for each entry
            faults["of another shape"] = [line.strip() for line in str(error).splitlines()[1:]]
    if told := [f"{what}: {_listed(names)}" for what, names in faults.items() if names]:
        told += _advice(network, wanted, faults["missing"], faults["unexpected"])
        raise StateDictError(f"{os.fspath(path)} is of another network; " + "; ".join(told))
    return tuple(key for key in given if key in left_out)


def _advice(network: nn.Module, wanted: Mapping[str, Tensor], missing: list[str], unexpected: list[str]) -> list[str]:
    """What to write instead, where that can be told."""
    activations = [path for path, module in network.named_modules() if isinstance(module, ChannelModule)]
    if missing and not unexpected and all(key.startswith(tuple(f"{path}." for path in activations)) for key in missing):
        return ["only activations are missing: if it is of the network before it got them, add --weights-stage before"]
    given, own = wanted.get(_STEM), network.state_dict().get(_STEM)
    if given is not None and own is not None and given.shape[2:] != own.shape[2:]:
        return ["its stem is for images of another size: at --image-size 96 and more it is another one than below"]
    return []


def _named(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors, by the network's own names."""
    for holder in _HOLDERS:
        if isinstance(content.get(holder), Mapping):
            content = content[holder]
    state = {key.replace("_orig_mod.", ""): value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        named = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if named and (prefix == _OURS or len(named) == len(state)):
            return named
    return state


def _score_layers(network: nn.Module, body: str | None) -> tuple[str, ...]:
    """The paths of the layers that give class scores: of a classification network the last one."""
    if body is None:
        return tuple(path for path, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))[-1:]
    return getattr(network, "score_layers", ())


def _of_other_classes(given: Tensor | None, own: Tensor | None) -> bool:
    return given is not None and own is not None and given.shape[1:] == own.shape[1:] and len(given) != len(own)


def _dropped(whole: nn.Module, network: nn.Module, body: str) -> set[str]:
    """The modules of the classification network of which its body has nothing."""
    kept = {key.removeprefix(body) for key in network.state_dict() if key.startswith(body)}

    def within(path: str, keys: Iterable[str]) -> bool:
        return any(key.startswith(f"{path}.") for key in keys)

    everything = whole.state_dict()
    return {path for path, _ in whole.named_modules() if path and within(path, everything) and not within(path, kept)}


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_LISTED])
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
