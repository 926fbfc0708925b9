"""The call sites of activations: which calls belong together, and why some cannot be changed."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any

import torch
from torch import nn

from aconite.surgery.calls import Call, Watch

__all__ = ["Group", "Site", "grouped"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A place in the model's code that calls an activation, as ``where=`` functions see it."""

    path: str
    """The path of the activation module; for a call of a function, of the module that calls it."""
    call: str
    """What tells it from other calls at this path: "relu()", "2 of 3", "relu() 1 of 2", or nothing."""
    original: nn.Module
    """The activation; for a call of a function the module that computes the same."""
    caller: nn.Module
    """The module whose forward method calls it."""
    caller_path: str
    shape: tuple[int, ...]
    """Of the first input seen."""
    channel_dim: int | None
    """Where the channels are; None where that is not known."""
    channels: int | None
    kernel: tuple[int, ...] | None
    """The size of the kernel of the last convolution before it."""
    pooled: bool
    """It sees averages over all positions alone, as in squeeze-and-excitation and in classifiers."""
    device: torch.device
    position: int
    """Its place in the order of the first calls."""
    reason: str | None = None
    """Why it cannot be changed."""


@dataclass(eq=False)
class Group:
    """The sites of one caller that share a module, or that call functions."""

    caller: nn.Module
    caller_path: str
    module: nn.Module | None
    """None for functions."""
    orders: dict[bool, tuple[int, ...]] = field(default_factory=dict)
    """For the caller's evaluation and training mode: the site of each call, in the order of the calls."""
    functions: dict[bool, tuple[str, ...]] = field(default_factory=dict)
    """The names of the functions, in the same order."""
    methods: dict[bool, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    """For each public method of the caller that makes some of the calls, such as ``forward_features``: which of them,
    by their turns in the forward."""
    sites: list[Site] = field(default_factory=list)


def grouped(watch: Watch, channel_dim: int | None) -> list[Group]:
    """The call sites by their callers; ``channel_dim`` says where the channels are, if the user did."""
    paths = {module: path for path, module in watch.model.named_modules()}
    groups = []
    for caller, runs in watch.runs.items():
        for module in dict.fromkeys(call.module for _, calls in runs for call in calls):
            own = [(mode, [call for call in calls if call.module is module]) for mode, calls in runs]
            groups.append(_group(Group(caller, paths[caller], module), own, paths, channel_dim))
    orders = sorted(site.position for group in groups for site in group.sites)
    for group in groups:
        group.sites = [replace(site, position=orders.index(site.position)) for site in group.sites]
    return groups


def _group(
    group: Group, runs: list[tuple[bool, list[Call]]], paths: dict[nn.Module, str], channel_dim: int | None
) -> Group:
    found: dict[Hashable, list[Call]] = {}
    seen: dict[bool, dict[tuple[Hashable, ...], tuple[str, ...]]] = {}
    for mode, calls in runs:
        keys = list(_keys(calls))
        for key, call in zip(keys, calls, strict=True):
            found.setdefault(key, []).append(call)
        if keys:
            seen.setdefault(mode, {})[tuple(keys)] = tuple(call.function for call in calls if call.function)
            if mode not in group.methods:
                group.methods[mode] = _methods(group.caller, calls)
    keys = sorted(found, key=lambda key: found[key][0].order)
    several = len(keys) > 1
    for mode, sequences in seen.items():
        order, group.functions[mode] = next(iter(sequences.items()))
        group.orders[mode] = tuple(keys.index(key) for key in order)
    reason = None
    if several and any(len(sequences) > 1 for sequences in seen.values()):
        reason = "which of its calls come, and in which order, differs from one forward to the next"
    elif (several or group.module is None) and any(call.checkpointed for calls in found.values() for call in calls):
        reason = "it is called inside torch.utils.checkpoint, which would call it again out of turn"
    path = _path(group, paths)
    for number, key in enumerate(keys, 1):
        function = found[key][0].function
        names = [f"{function}()"] if function else []
        names += [f"{number} of {len(keys)}"] if several else []
        group.sites.append(_site(found[key], group, path, " ".join(names), reason, channel_dim))
    return group


def _methods(caller: nn.Module, calls: list[Call]) -> dict[str, tuple[int, ...]]:
    within = [{code for code, _ in call.line} for call in calls]
    found: dict[str, tuple[int, ...]] = {}
    for name in sorted(set(dir(type(caller))).difference(dir(nn.Module))):
        method = inspect.getattr_static(type(caller), name)
        if not isinstance(method, FunctionType) or name.startswith("_"):
            continue
        # A decorator's code says nothing: it is the same for all that it decorates.
        code = inspect.unwrap(method).__code__
        turns = tuple(turn for turn, codes in enumerate(within) if code in codes)
        if turns:
            found[name] = turns
    return found


def _path(group: Group, paths: dict[nn.Module, str]) -> str:
    """The module's own path below its caller, where several hold it."""
    if group.module is None:
        return group.caller_path
    below = (path for path, module in group.caller.named_modules(remove_duplicate=False) if module is group.module)
    name = next(below, None)
    return paths[group.module] if name is None else ".".join(filter(None, (group.caller_path, name)))


def _keys(calls: list[Call]) -> Iterable[Hashable]:
    """What stays the same when a call comes again, in another mode too: the layer before it, or else its turn.

    Calls after the same layer from several lines of code, before and after a sum for instance, are different.
    """
    lines: dict[Hashable, list[Any]] = {}
    for call in calls:
        maker = call.tag.maker
        seen = lines.setdefault((call.function, maker), [])
        if call.line not in seen or maker is None:
            seen.append(call.line)
        yield call.function, maker, len(seen) if maker is None else seen.index(call.line)


def _site(calls: list[Call], group: Group, path: str, name: str, reason: str | None, channel_dim: int | None) -> Site:
    first = calls[0]
    dim = _channel_dim(calls) if channel_dim is None else channel_dim
    counts: set[int] = set()
    if dim is None:
        reason = reason or (
            f"nothing tells which dimension of its input {first.shape} holds the channels; if you know, pass "
            "channel_dim= and choose it with where="
        )
    elif any(not -len(call.shape) <= dim < len(call.shape) for call in calls):
        reason = reason or f"its input {first.shape} has no channel_dim={dim}"
    else:
        counts = {call.shape[dim] for call in calls}
    if len(counts) > 1:
        listed = " and ".join(map(str, sorted(counts)))
        reason = reason or f"its calls see {listed} channels, since its caller is itself shared"
    if any(call.reused for call in calls):
        reason = reason or "it overwrites its input, which is used again"
    return Site(
        path=path,
        call=name,
        original=first.original,
        caller=group.caller,
        caller_path=group.caller_path,
        shape=first.shape,
        channel_dim=dim,
        channels=counts.pop() if len(counts) == 1 else None,
        kernel=first.tag.kernel,
        pooled=first.tag.pooled,
        device=first.device,
        position=first.order,
        reason=reason,
    )


def _channel_dim(calls: list[Call]) -> int | None:
    """One number that is right for all calls: 1 where it is, else counted from the end."""
    dims = []
    for call in calls:
        dim = call.votes.dim if call.tag.dim is None else call.tag.dim
        if dim is None and len(call.shape) <= 2:
            dim = len(call.shape) - 1
        if dim is None:
            return None
        dims.append((dim, dim - len(call.shape)))
    front, back = {dim for dim, _ in dims}, {dim for _, dim in dims}
    if front == {1}:
        return 1
    return back.pop() if len(back) == 1 else (front.pop() if len(front) == 1 else None)
