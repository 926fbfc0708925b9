"""A fused kernel's call, kept with the module that made it: run again at once where nothing has changed since.

To ask every question that decides a call, and to bind it, takes 60 µs, and in the middle of a network, whose
convolutions leave little of Python's own code and data in the caches, more than the kernel itself on a small map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, ValuesView
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from aconite.kernels import AconCCall
from aconite.kernels.norm import NormCall
from aconite.ops import runs_directly

__all__ = ["BoundCall", "Keeper", "again", "keep"]

_SLOT = "_aconite_calls"
_KEPT = 8  # a detector calls a head once for each of five levels
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS: tuple[dict[int, Any], ...] = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
_place = Tensor.data_ptr


class BoundCall(NamedTuple):
    """A call of a fused operator, bound to where its tensors lie.

    Attributes:
        call: the kernel's.
        apply: runs it under autograd: call, after, x, arguments → y.
        arguments: the operator's, behind x.
        after: takes what the kernel returned beside y, such as the statistics that a norm's buffers follow.
    """

    call: AconCCall | NormCall
    apply: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    after: Callable[..., None] | None

    def run(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.apply(self.call, self.after, x, *self.arguments)
        y, *beside = self.call.forward(x)
        if self.after is not None:
            self.after(*beside)
        return y


class _Kept(NamedTuple):
    partner: nn.Module | None
    hooks: tuple[dict[int, Any], ...]
    """Those of the modules that run inside the call, and the global ones: all empty."""
    values: tuple[ValuesView[Any], ...]
    """Everything that the modules hold, but for the owner's own attributes."""
    ids: list[int]
    held: list[Any]
    """What the ids are of; alive, so that no other object takes one over."""
    tensors: list[Tensor]
    places: list[int]
    bound: BoundCall


class _Slot:
    """Where a module keeps its calls, by shape, strides and dtype of the input. A copy or pickle of the module holds an
    empty dict in its place: no addresses.
    """

    def __init__(self) -> None:
        self.calls: dict[tuple[torch.Size, tuple[int, ...], torch.dtype], _Kept] = {}

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[()]]:
        return dict, ()


def again(module: nn.Module, x: Tensor, partner: nn.Module | None = None) -> Tensor | None:
    """The result of the module's kept call, with this partner, on x; None, and nothing done, where it has none or it
    holds no longer.
    """
    if torch.compiler.is_compiling():
        return None
    attributes = module.__dict__
    slot = attributes.get(_SLOT)
    if type(slot) is not _Slot or not runs_directly(x):
        return None
    kept = slot.calls.get((x.shape, x.stride(), x.dtype))
    if (
        kept is None
        or kept.partner is not partner
        or any(kept.hooks)
        or [*map(id, chain(attributes.values(), *kept.values))] != kept.ids
        or [*map(_place, kept.tensors)] != kept.places
    ):
        return None
    return kept.bound.run(x)


class Keeper(NamedTuple):
    """With whom a call is kept.

    Attributes:
        owner: asks for it by `again`.
        partner: the module that the owner computes as well, if it is told each time.
        called: whether the call is the owner's forward, so that its hooks run by themselves; those of others never do.
    """

    owner: nn.Module
    partner: nn.Module | None = None
    called: bool = False


def keep(keeper: Keeper, inside: Iterable[nn.Module], x: Tensor, bound: BoundCall) -> None:
    """Keep the call for inputs like x; ``inside`` are all modules beside owner and partner that it depends on."""
    owner, partner, called = keeper
    attributes = owner.__dict__
    if type(attributes.get(_SLOT)) is not _Slot:
        attributes[_SLOT] = _Slot()
    modules = (owner, *(() if partner is None else (partner,)), *inside)
    hooked = modules[1:] if called else modules
    hooks = (*_GLOBAL_HOOKS, *(module.__dict__[name] for module in hooked for name in _HOOKS))
    if any(hooks):
        return
    # Not the owner's own dictionary, which holds the slot: the circle would outlive the module.
    dicts = [module.__dict__ for module in modules[1:]]
    dicts += [module.__dict__[name] for module in modules for name in ("_parameters", "_buffers", "_modules")]
    values = tuple(entries.values() for entries in dicts)
    held = [*chain(attributes.values(), *values)]
    ids = [*map(id, held)]
    held = [value for value in held if type(value) is not _Slot]  # another circle
    tensors = [value for value in held if isinstance(value, Tensor)]
    places = [*map(_place, tensors)]
    calls = attributes[_SLOT].calls
    if len(calls) >= _KEPT or any(kept.ids != ids for kept in calls.values()):
        calls.clear()  # those of another state would keep its parameters alive
    calls[x.shape, x.stride(), x.dtype] = _Kept(partner, hooks, values, ids, held, tensors, places, bound)
