"""Putting activations at call sites so that the model's class, attributes and hooks stay, and taking them out."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping

import torch.nn.functional as F
from torch import nn

from aconite.surgery.callsites import Group, Site
from aconite.surgery.dispatch import CallSites, CountedForward

__all__ = ["FUNCTIONS_AT", "install", "installed", "obstacle", "original_of", "remove", "shield", "uncount"]

FUNCTIONS_AT = "aconite_calls"
"""The child of a module that holds the activations of its function calls."""
_ORIGINAL = "_aconite_original"
"""Where an installed module keeps what it took the place of; beside torch's registry, so that no state dict has it."""
_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip


def obstacle(group: Group, callers: Mapping[nn.Module | None, set[nn.Module]]) -> str | None:
    """Why no activation can be put at any site of the group; ``callers`` says who calls each module."""
    if group.module is not None:
        if not _slots(group, callers):
            return f"no attribute below {type(group.caller).__name__} holds it alone"
    elif isinstance(group.caller, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return "a function called in a container, whose children are called by their order"
    elif FUNCTIONS_AT in group.caller._modules:
        return "other calls of functions in this module are converted; call aconite.deconvert first"
    return None


def install(
    group: Group,
    layers: Mapping[Site, nn.Module],
    callers: Mapping[nn.Module | None, set[nn.Module]],
) -> None:
    """Put these layers at sites of the group; the group's other sites keep their activation."""
    caller, module = group.caller, group.module
    if module is None:
        functions = CallSites([layers.get(site) for site in group.sites], group)
        caller.add_module(FUNCTIONS_AT, functions)
        for counted in _counted(group):
            counted.functions = functions
        _slow_path(caller)
        return
    slots = _slots(group, callers)
    new = [layers.get(site, module) for site in group.sites]
    if len(new) == 1:
        new *= len(slots)
    elif not _slot_after_slot(group, slots):
        new = [CallSites(new, group)] * len(slots)
        _counted(group)
    # Where one takes the module's place it has the very dicts, so that the handles which users hold still remove hooks.
    alone = len(set(new)) == 1 and len(callers[module]) == 1
    for (parent, name), layer in zip(slots, new, strict=True):
        if layer is not module:
            parent._modules[name] = layer.train(module.training)
            layer.__dict__[_ORIGINAL] = original_of(module) or module
            for hooks in _HOOKS:
                layer.__dict__[hooks] = module.__dict__[hooks] if alone else copy.copy(module.__dict__[hooks])
    _slow_path(caller)


def shield(module: nn.Module, method: str = "forward") -> CountedForward:
    """Count the turns of a module's own calls apart from those of its callers."""
    counted = module.__dict__.get(method)
    if not isinstance(counted, CountedForward):
        counted = module.__dict__[method] = CountedForward(module, method)
    return counted


def _counted(group: Group) -> list[CountedForward]:
    """The caller's forward and the methods that make some of the group's calls."""
    methods = dict.fromkeys(name for methods in group.methods.values() for name in methods)
    return [shield(group.caller, name) for name in ("forward", *methods)]


def uncount(module: nn.Module, kept: Collection[CountedForward] = ()) -> None:
    """Give the module its own methods back."""
    for name, counted in list(module.__dict__.items()):
        if isinstance(counted, CountedForward) and counted not in kept:
            del module.__dict__[name]
            if counted.replaced is not None:
                module.__dict__[name] = counted.replaced


def original_of(module: nn.Module) -> nn.Module | None:
    """What an installed module took the place of."""
    return module.__dict__.get(_ORIGINAL)


def installed(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module that `install` has put into the model, with its path; outermost only."""
    below: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if not path.startswith(below) and (original_of(module) is not None or path.split(".")[-1] == FUNCTIONS_AT):
            below = (*below, f"{path}.")
            yield path, module


def remove(model: nn.Module) -> None:
    """Give every changed module of the model its own activations and forward back."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            original = None if child is None else original_of(child)
            if child is not None and original is not None:
                like = next(child.parameters(), None)
                module._modules[name] = original.train(child.training).to(like) if like is not None else original
        if isinstance(module._modules.get(FUNCTIONS_AT), CallSites):
            del module._modules[FUNCTIONS_AT]
    for module in model.modules():
        uncount(module)
        if isinstance(module, nn.TransformerEncoderLayer):
            kind = module.activation if not isinstance(module.activation, nn.Module) else type(module.activation)
            module.activation_relu_or_gelu = {F.relu: 1, nn.ReLU: 1, F.gelu: 2, nn.GELU: 2}.get(kind, 0)


def _slot_after_slot(group: Group, slots: list[tuple[nn.Module, str]]) -> bool:
    """Whether the caller is a Sequential that holds the module once for each site."""
    return (
        type(group.caller).forward is nn.Sequential.forward
        and all(parent is group.caller for parent, _ in slots)
        and all(order == tuple(range(len(slots))) for order in group.orders.values())
        and len(group.sites) == len(slots)
    )


def _slow_path(caller: nn.Module) -> None:
    if isinstance(caller, nn.TransformerEncoderLayer):
        # Its fast path in evaluation would go on computing the old activation.
        caller.activation_relu_or_gelu = 0


def _slots(group: Group, callers: Mapping[nn.Module | None, set[nn.Module]]) -> list[tuple[nn.Module, str]]:
    """The attributes through which the group's caller reaches its module, and no other caller does."""
    within = {caller: set(caller.modules()) for caller in callers[group.module]}
    mine = []
    for parent in within[group.caller]:
        names = [name for name, child in parent._modules.items() if child is group.module]
        # The caller with the smallest subtree around an attribute is the one that uses it.
        nearest = min((c for c in within if parent in within[c]), key=lambda c: len(within[c]))
        if nearest is group.caller:
            mine += [(parent, name) for name in names]
    return mine
