"""An expression as a flat list of steps: what occurs twice is computed once, and the compiler sees no recursion."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from aconite import functional
from aconite.kernels import align
from aconite.nn.expression.functions import EPS_VALUE, FUNCTIONS, Value
from aconite.nn.expression.tree import (
    Call,
    Number,
    Symbol,
    Tree,
    depends_on_x,
    multiply,
    parameters,
    power,
    split_power,
)

__all__ = ["Program"]


def _sum(*values: Any) -> Any:
    return reduce(operator.add, values)


def _product(*values: Any) -> Any:
    return reduce(operator.mul, values)


_STEPS: dict[str, Callable[..., Any]] = {name: function.run for name, function in FUNCTIONS.items()} | {
    "+": _sum,
    "*": _product,
    "/": operator.truediv,
    "**": operator.pow,
    "relu": torch.relu,
}
# they align their parameters themselves
_FAMILY: dict[str, Callable[..., Tensor]] = {"acon_c": functional.acon_c, "smax": functional.acon}


@dataclass(frozen=True)
class _Step:
    """A function's name, the slots of its arguments, and which of them are per channel and must be spread over x."""

    name: str
    slots: tuple[int, ...]
    spread: tuple[bool, ...]
    family: bool


@dataclass(frozen=True)
class Program:
    """The steps of a tree. Slots hold the constants first, then the parameters by name, x, and each step's result."""

    tree: Tree
    native: bool
    constants: tuple[float, ...] = field(init=False)
    names: tuple[str, ...] = field(init=False)
    steps: tuple[_Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        builder = _Builder(self.tree, self.native)
        for name in ("constants", "names", "steps"):
            object.__setattr__(self, name, getattr(builder, name))

    def run(self, x: Tensor, values: Mapping[str, Tensor], channel_dim: int) -> Tensor:
        """The tree at x with these parameters, each (C,)."""
        slots: list[Value] = [*self.constants, *(values[name] for name in self.names), x]
        for step in self.steps:
            arguments = [
                align(slots[slot], x, channel_dim) if spread else slots[slot]
                for slot, spread in zip(step.slots, step.spread, strict=True)
            ]
            if step.family:
                slots.append(_FAMILY[step.name](*arguments, channel_dim=channel_dim))
            else:
                slots.append(_STEPS[step.name](*arguments))
        result = slots[-1]
        assert isinstance(result, Tensor)
        return result


class _Builder:
    def __init__(self, tree: Tree, native: bool) -> None:
        self.native = native
        self.constants: tuple[float, ...] = tuple(dict.fromkeys(_constants(tree)))
        self.names = parameters(tree)
        self.slots: dict[Tree, int] = {Number(value): number for number, value in enumerate(self.constants)}
        for symbol in (*self.names, "x"):
            self.slots[Symbol(symbol)] = len(self.slots)
        self.steps: tuple[_Step, ...] = ()
        self.slot(tree)

    def slot(self, tree: Tree) -> int:
        """Where the tree's value is; its steps are added where it is not there yet."""
        if (value := _constant(tree)) is not None:
            tree = Number(value)
        if tree not in self.slots:
            assert isinstance(tree, Call)
            name, arguments = _operation(tree)
            slots = tuple(self.slot(argument) for argument in arguments)
            family = name == "acon_c" or (self.native and name == "smax" and all(map(depends_on_x, tree.arguments[:2])))
            mixed = depends_on_x(tree) and not family
            spread = tuple(mixed and bool(parameters(a)) and not depends_on_x(a) for a in arguments)
            self.steps += (_Step(name, slots, spread, family),)
            self.slots[tree] = len(self.constants) + len(self.names) + len(self.steps)
        return self.slots[tree]


def _operation(tree: Call) -> tuple[str, tuple[Tree, ...]]:
    """What a call does in one step, and on what: a division where a factor has a negative exponent."""
    if tree.name in ("*", "**"):
        below = [power(f, -1) for f in _factors(tree) if split_power(f)[1] < 0]
        if below:
            return "/", (multiply(*(f for f in _factors(tree) if split_power(f)[1] > 0)), multiply(*below))
    return tree.name, tree.arguments


def _factors(tree: Call) -> tuple[Tree, ...]:
    return tree.arguments if tree.name == "*" else (tree,)


def _constants(tree: Tree) -> list[float]:
    """Every number that a step needs; a part that holds neither x nor a parameter is one."""
    if (value := _constant(tree)) is not None:
        return [value]
    if not isinstance(tree, Call):
        return []
    return [value for argument in _operation(tree)[1] for value in _constants(argument)]


def _constant(tree: Tree) -> float | None:
    if depends_on_x(tree) or parameters(tree):
        return None
    match tree:
        case Number(value):
            return value
        case Symbol():
            return EPS_VALUE
    name, arguments = _operation(tree)
    values = [_constant(argument) for argument in arguments]
    if name in FUNCTIONS:
        return float(FUNCTIONS[name].run(*(torch.tensor(value, dtype=torch.float64, device="cpu") for value in values)))
    return float(_STEPS[name](*values)) if name != "/" or values[1] else math.nan
