"""A fused kernel's call, kept with the module that made it: run again at once where nothing has changed since.

To ask every question that decides a call, and to bind it, takes 60 µs, and in the middle of a network, whose
convolutions leave little of Python's own code and data in the caches, more than the kernel itself on a small map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, call, is_, itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from aconite.ops import Bound, compiled, runs_directly

__all__ = ["Keeper", "again", "keep"]

_SLOT = "_aconite_calls"
_KEPT = 8  # a detector calls a head once for each of five levels
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS: tuple[dict[int, Any], ...] = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
_TABLES = ("_parameters", "_buffers", "_modules")
_OTHERS = frozenset(vars(nn.Module())).difference(_TABLES, _HOOKS, ["training"]) | {_SLOT}
"""A module's attributes that do not decide what it computes."""
_END = (object(),)
_LYING = Tensor.data_ptr, Tensor.size, Tensor.stride, Tensor.is_neg, attrgetter("dtype")
_compiling = torch.compiler.is_compiling


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


@dataclass(frozen=True, slots=True)
class _Kept:
    holds: Callable[[dict[str, Any], nn.Module | None], bool]
    """(the owner's attributes, its partner) → whether everything that the call depends on is what it was."""
    partner: nn.Module | None
    run: Callable[[Tensor], Tensor]
    compiled: Callable[..., Tensor | None] | None
    """All of this in one call that is not Python, where `aconite build-node` has compiled it."""


class _Slot:
    """Where a module keeps its calls, by shape, strides and dtype of the input. A copy or pickle of the module holds an
    empty dict in its place: no addresses.
    """

    def __init__(self) -> None:
        self.calls: dict[tuple[torch.Size, tuple[int, ...], torch.dtype], _Kept] = {}
        self.compiled: tuple[Callable[..., Tensor | None], ...] = ()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[()]]:
        return dict, ()


def again(module: nn.Module, x: Tensor, partner: nn.Module | None = None) -> Tensor | None:
    """The result of the module's kept call, with this partner, on x; None, and nothing done, where it has none or it
    holds no longer.
    """
    if _compiling():
        return None
    attributes = module.__dict__
    slot = attributes.get(_SLOT)
    if type(slot) is not _Slot:
        return None
    for run in slot.compiled:
        y = run(x, attributes, partner)
        if y is not None:
            return y
    if not runs_directly(x):
        return None
    kept = slot.calls.get((x.shape, x.stride(), x.dtype))
    if kept is None or not kept.holds(attributes, partner):
        return None
    return kept.run(x)


def keep(keeper: Keeper, inside: Iterable[nn.Module], x: Tensor, bound: Bound) -> None:
    """Keep the call for inputs like x; ``inside`` are all modules beside owner and partner that it depends on."""
    owner, partner, called = keeper
    others = (*(() if partner is None else (partner,)), *inside)
    hooked = others if called else (owner, *others)
    hooks = [module.__dict__[name] for module in hooked for name in _HOOKS]
    hooks += _GLOBAL_HOOKS if hooked else ()  # a module that is called runs them itself
    if any(hooks):
        return
    attributes = owner.__dict__
    if type(attributes.get(_SLOT)) is not _Slot:
        attributes[_SLOT] = _Slot()
    slot = attributes[_SLOT]
    calls = tuple(slot.calls.values())  # another thread may keep one meanwhile
    if len(calls) >= _KEPT or not all(kept.holds(attributes, kept.partner) for kept in calls):
        slot.calls.clear()  # those of another state would keep its parameters alive
    question = Question.of(keeper, others, hooks)
    known = {id(value) for table in question.tables for value in table.values()}
    if not known.issuperset(map(id, (*bound.tensors, *bound.read))):
        return  # a parametrization or a property makes a tensor anew at each call
    try:
        holds = question.in_python()
    except RuntimeError:  # a tensor without memory, such as a sparse buffer
        return
    kept = _Kept(holds, partner, bound.run, compiled(bound, question.in_c(), x))
    slot.calls[x.shape, x.stride(), x.dtype] = kept
    calls = tuple(slot.calls.values())
    slot.compiled = tuple(kept.compiled for kept in calls if kept.compiled is not None)


class Question(NamedTuple):
    """Whether everything that a call depends on is what it was. It does not lead back to the owner: the circle would
    outlive the module.

    Attributes:
        partner: as of `Keeper`.
        own: the owner's attributes that decide what it computes, name → value.
        size: how many attributes the owner has.
        others: the attributes of the other modules.
        tables: parameters, buffers and children of them all.
        hooks: what must be empty.
        tensors: those of the tables, whose places in memory may not change.
    """

    partner: nn.Module | None
    own: dict[str, Any]
    size: int
    others: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    hooks: list[dict[int, Any]]
    tensors: list[Tensor]

    @classmethod
    def of(cls, keeper: Keeper, others: tuple[nn.Module, ...], hooks: list[dict[int, Any]]) -> Question:
        """As everything is now."""
        attributes = keeper.owner.__dict__
        tables = [module.__dict__[name] for module in (keeper.owner, *others) for name in _TABLES]
        tables = [table for table in tables if table]
        tensors = [value for table in tables for value in table.values() if isinstance(value, Tensor)]
        return cls(
            keeper.partner,
            _deciding(attributes),
            len(attributes),
            [module.__dict__ for module in others],
            tables,
            hooks,
            tensors,
        )

    def in_python(self) -> Callable[[dict[str, Any], nn.Module | None], bool]:
        """`_Kept.holds`."""
        partner, dicts, hooks = self.partner, self.others, self.hooks
        own, theirs = itemgetter(*self.own), [itemgetter(*_deciding(d)) for d in dicts]
        tables = [table.values() for table in self.tables]
        held = [*chain(own(self.own), *map(call, theirs, dicts), *tables, _END)]
        sizes = [self.size, *map(len, dicts)]
        tensors = self.tensors
        places = _places(tensors)

        def holds(attributes: dict[str, Any], now: nn.Module | None) -> bool:
            return (
                now is partner
                and not any(hooks)
                and [*map(len, (attributes, *dicts))] == sizes
                and all(map(is_, chain(own(attributes), *map(call, theirs, dicts), *tables, _END), held))
                and _places(tensors) == places
            )

        return holds

    def in_c(self) -> tuple[Any, ...]:
        """The tuple that node.cpp asks the same of."""
        return (
            self.partner,
            self.size,
            tuple(chain(*self.own.items())),
            tuple((d, len(d), *chain(*_deciding(d).items())) for d in self.others),
            tuple((table, *table.values()) for table in self.tables),
            tuple(self.hooks),
            *self.tensors,
        )


def _places(tensors: list[Tensor]) -> list[Any]:
    """Where the tensors lie in memory, and how."""
    return [found for ask in _LYING for found in map(ask, tensors)]


def _deciding(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name not in _OTHERS}
