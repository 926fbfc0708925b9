"""The tree of an expression: numbers, symbols and calls, kept in a form that prints and parses without loss.

Sums and products are calls of ``+`` and ``*`` with any number of arguments; a difference is a sum with a factor −1, a
quotient a product with a power −1. `add`, `multiply` and `power` keep them flat and their numbers folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aconite.errors import SettingsError

__all__ = [
    "EPS",
    "ONE",
    "ZERO",
    "Call",
    "Number",
    "Symbol",
    "Tree",
    "X",
    "add",
    "depends_on_x",
    "factors",
    "multiply",
    "negate",
    "parameters",
    "power",
    "scaled",
    "split_power",
    "substitute",
    "terms",
]


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise SettingsError("the expression holds a number that is too large")

    def __str__(self) -> str:
        return repr(int(self.value)) if self.value == int(self.value) and abs(self.value) < 1e15 else repr(self.value)


@dataclass(frozen=True)
class Symbol:
    """The input ``x``, the constant ``eps``, or a parameter such as ``beta``, ``beta2``, ``p1``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """A function's name, or ``+``, ``*``, ``**``, with its arguments; the exponent of ``**`` is a whole `Number`."""

    name: str
    arguments: tuple[Tree, ...]

    def __str__(self) -> str:
        match self.name:
            case "+":
                return _printed_sum(self.arguments)
            case "*":
                return _printed_product(self)
            case "**":
                base, exponent = self.arguments
                assert isinstance(exponent, Number)
                if exponent.value < 0:
                    return f"1 / {_inner(power(base, -int(exponent.value)), 2)}"
                return f"{_inner(base, 3)} ** {exponent}"
            case name:
                return f"{name}({', '.join(map(str, self.arguments))})"


Tree = Number | Symbol | Call

X, EPS, ZERO, ONE = Symbol("x"), Symbol("eps"), Number(0.0), Number(1.0)


def add(*arguments: Tree) -> Tree:
    """Their sum; numbers are added up at the place of the first of them."""
    flat = [term for argument in arguments for term in terms(argument)]
    numbers = [term.value for term in flat if isinstance(term, Number)]
    kept: list[Tree] = [term for term in flat if not isinstance(term, Number)]
    if (constant := math.fsum(numbers)) != 0 or not kept:
        first = next((i for i, term in enumerate(flat) if isinstance(term, Number)), 0)
        kept.insert(first, Number(constant))
    return kept[0] if len(kept) == 1 else Call("+", tuple(kept))


def multiply(*arguments: Tree) -> Tree:
    """Their product: the number first, then what is multiplied, then what is divided by."""
    flat = [factor for argument in arguments for factor in factors(argument)]
    number = math.prod(factor.value for factor in flat if isinstance(factor, Number))
    if number == 0:
        return ZERO
    kept: list[Tree] = [factor for factor in flat if not isinstance(factor, Number)]
    kept.sort(key=lambda factor: split_power(factor)[1] < 0)
    if number != 1 or not kept:
        kept.insert(0, Number(number))
    return kept[0] if len(kept) == 1 else Call("*", tuple(kept))


def power(base: Tree, exponent: int) -> Tree:
    """base**exponent; a product's factors and a power are raised one by one."""
    if isinstance(base, Number):
        if base.value == 0 and exponent < 0:
            raise SettingsError("the expression divides by zero")
        try:
            return Number(base.value**exponent)
        except OverflowError:
            return Number(math.inf)
    if isinstance(base, Call) and base.name == "*":
        return multiply(*(power(factor, exponent) for factor in base.arguments))
    inner, own = split_power(base)
    if (total := own * exponent) == 0:
        return ONE
    return inner if total == 1 else Call("**", (inner, Number(float(total))))


def negate(tree: Tree) -> Tree:
    """−tree."""
    return multiply(Number(-1.0), tree)


def terms(tree: Tree) -> tuple[Tree, ...]:
    """The terms of a sum; anything else is one."""
    return tree.arguments if isinstance(tree, Call) and tree.name == "+" else (tree,)


def factors(tree: Tree) -> tuple[Tree, ...]:
    """The factors of a product; anything else is one."""
    return tree.arguments if isinstance(tree, Call) and tree.name == "*" else (tree,)


def scaled(tree: Tree) -> tuple[float, Tree]:
    """The number that a tree begins with as a product, and what it multiplies."""
    if isinstance(tree, Number):
        return tree.value, ONE
    first, *rest = factors(tree)
    return (first.value, multiply(*rest)) if isinstance(first, Number) else (1.0, tree)


def split_power(tree: Tree) -> tuple[Tree, int]:
    """Base and exponent; anything but a power has the exponent 1."""
    if isinstance(tree, Call) and tree.name == "**":
        base, exponent = tree.arguments
        assert isinstance(exponent, Number)
        return base, int(exponent.value)
    return tree, 1


def substitute(tree: Tree, values: Mapping[str, Tree]) -> Tree:
    """The tree with trees in the place of symbols.

    >>> str(substitute(Call("max", (X, ZERO)), {"x": negate(X)}))
    'max(-x, 0)'
    """
    match tree:
        case Symbol(name):
            return values.get(name, tree)
        case Call(name, arguments):
            inner = [substitute(argument, values) for argument in arguments]
            return rebuilt(name, inner)
    return tree


def rebuilt(name: str, arguments: list[Tree]) -> Tree:
    """A call of this name, flat and folded."""
    match name:
        case "+":
            return add(*arguments)
        case "*":
            return multiply(*arguments)
        case "**":
            assert isinstance(arguments[1], Number)
            return power(arguments[0], int(arguments[1].value))
    return Call(name, tuple(arguments))


def _symbols(tree: Tree) -> Iterator[str]:
    if isinstance(tree, Symbol):
        yield tree.name
    elif isinstance(tree, Call):
        for argument in tree.arguments:
            yield from _symbols(argument)


def parameters(tree: Tree) -> tuple[str, ...]:
    """The names of the learnt symbols, each once, in alphabetical order."""
    return tuple(sorted(set(_symbols(tree)) - {"x", "eps"}))


def depends_on_x(tree: Tree) -> bool:
    """Whether x stands in it."""
    return "x" in _symbols(tree)


def _printed_sum(arguments: tuple[Tree, ...]) -> str:
    text = str(arguments[0])
    for term in arguments[1:]:
        negative = scaled(term)[0] < 0
        text += f" - {_inner(negate(term), 2)}" if negative else f" + {term}"
    return text


def _printed_product(tree: Call) -> str:
    if tree.arguments[0] == Number(-1.0):
        return f"-{_inner(multiply(*tree.arguments[1:]), 2)}"
    above = [factor for factor in tree.arguments if split_power(factor)[1] > 0]
    below = [power(factor, -1) for factor in tree.arguments if split_power(factor)[1] < 0]
    text = " * ".join(_inner(factor, 2) for factor in above) or "1"
    return f"{text} / {_inner(multiply(*below), 3 if len(below) > 1 else 2)}" if below else text


def _inner(tree: Tree, level: int) -> str:
    """The text, in brackets where it binds less than ``level`` asks: 1 sums, 2 products, 3 powers, 4 the rest."""
    match tree:
        case Number(value):
            binds = 4 if value >= 0 else 2
        case Call("+", _):
            binds = 1
        case Call("*", _):
            binds = 2
        case Call("**", (_, Number(exponent))):
            binds = (3 if level < 3 else 2) if exponent > 0 else 2
        case _:
            binds = 4
    return str(tree) if binds >= level else f"({tree})"
