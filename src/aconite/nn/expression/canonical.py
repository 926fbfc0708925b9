"""One form for each function: expressions that are equal by the rules below become the same tree.

The rules keep values and gradients wherever the original is finite; at a kink, where a gradient is a choice, they may
choose another one. Sums and products are sorted, equal terms and factors collected, and

- odd functions give up their sign, even ones lose it; max(−a, −b) = −min(a, b), max(ca, cb) = c·max(a, b)
- max(a, a) = a, max(a, −a) = |a|, max(a, b) = a where a − b cannot be negative, max(a, 0) + min(a, 0) = a
- exp(a)·exp(b) = exp(a + b), 1/(1 + exp(a)) = sigmoid(−a), log(1 + exp(a)) = softplus(a), sqrt(a²) = |a|
- |a|² = a², |ab| = a|b| where a cannot be negative, smax(a, b, β) = smax(b, a, β), smax(a, a, β) = a
"""

from __future__ import annotations

from collections import defaultdict

import torch

from aconite.nn.expression.functions import FUNCTIONS
from aconite.nn.expression.tree import (
    ZERO,
    Call,
    Number,
    Symbol,
    Tree,
    add,
    depends_on_x,
    factors,
    multiply,
    negate,
    power,
    scaled,
    split_power,
    terms,
)

__all__ = ["canonical"]


def canonical(tree: Tree) -> Tree:
    """The form that equal expressions share.

    Raises:
        SettingsError: it divides by zero.

    >>> from aconite.nn.expression import parse
    >>> print(canonical(parse("x / (1 + exp(-x * beta))")))
    x * sigmoid(beta * x)
    """
    for _ in range(20):  # two are enough but for trees that are made to be difficult
        if (simpler := _pass(tree)) == tree:
            break
        tree = simpler
    return tree


def _pass(tree: Tree) -> Tree:
    if not isinstance(tree, Call):
        return tree
    arguments = [_pass(argument) for argument in tree.arguments]
    match tree.name:
        case "+":
            return _sum(add(*arguments))
        case "*":
            return _product(multiply(*arguments))
        case "**":
            exponent = arguments[1]
            assert isinstance(exponent, Number)
            return _product(power(arguments[0], int(exponent.value)))
        case "max" | "min":
            return _extreme(tree.name, *arguments)
        case "smax":
            a, b = sorted(arguments[:2], key=_order)
            return a if a == b else Call("smax", (a, b, arguments[2]))
        case name:
            return _function(name, arguments[0])


def _order(tree: Tree) -> tuple[int, str]:
    """Parameters, x and its powers, functions, sums, numbers; then by their text."""
    base, _ = split_power(scaled(tree)[1])
    match base:
        case Number() | Symbol("eps"):
            rank = 5
        case Symbol("x"):
            rank = 2
        case Symbol():
            rank = 1
        case Call("+", _):
            rank = 4
        case _:
            rank = 3
    return rank, str(scaled(tree)[1])


def _term_order(tree: Tree) -> tuple[bool, bool, tuple[int, str]]:
    """What is added comes before what is subtracted, what depends on x before constants."""
    return scaled(tree)[0] < 0, *_unsigned_order(tree)


def _unsigned_order(tree: Tree) -> tuple[bool, tuple[int, str]]:
    return not depends_on_x(tree), _order(tree)


def _sum(tree: Tree) -> Tree:
    coefficients: dict[Tree, float] = defaultdict(float)
    for term in terms(tree):
        coefficient, rest = scaled(term)
        coefficients[rest] += coefficient
    for rest in list(coefficients):
        if isinstance(rest, Call) and rest.name == "max":
            other = Call("min", rest.arguments)
            if coefficients.get(other, 0) == coefficients[rest] != 0 and ZERO in rest.arguments:
                coefficients[add(*rest.arguments)] += coefficients.pop(rest)
                del coefficients[other]
    return add(*sorted((multiply(Number(c), rest) for rest, c in coefficients.items() if c), key=_term_order))


def _product(tree: Tree) -> Tree:
    number, exponents, grown = 1.0, defaultdict[Tree, int](int), list[Tree]()
    for factor in factors(tree):
        base, exponent = split_power(factor)
        if isinstance(base, Number):
            number *= base.value**exponent
        elif isinstance(base, Call) and base.name == "exp":
            grown.append(multiply(Number(float(exponent)), base.arguments[0]))
        elif exponent < 0 and (gate := _gate(base)) is not None:
            exponents[gate] -= exponent
        else:
            if _negative(base):
                number, base = number * (-1) ** exponent, _sum(_negate_each(base))
            exponents[base] += exponent
    for base in [base for base, e in exponents.items() if isinstance(base, Call) and base.name == "abs" and e % 2 == 0]:
        assert isinstance(base, Call)
        exponents[base.arguments[0]] += exponents.pop(base)
    kept = [power(base, exponent) for base, exponent in exponents.items() if exponent]
    if grown:
        kept.append(_function("exp", _sum(add(*grown))))
    kept.sort(key=_order)
    if number not in (0, 1) and len(kept) == 1 and isinstance(kept[0], Call) and kept[0].name == "+":
        return _sum(add(*(multiply(Number(number), term) for term in kept[0].arguments)))
    return multiply(Number(number), *kept)


def _gate(base: Tree) -> Tree | None:
    """sigmoid(−a) where the base is 1 + exp(a)."""
    a = _exponent_of_one_plus(base)
    return None if a is None else _function("sigmoid", _product(negate(a)))


def _exponent_of_one_plus(tree: Tree) -> Tree | None:
    match terms(tree):
        case (Call("exp", (a,)), Number(1.0)) | (Number(1.0), Call("exp", (a,))):
            return a
    return None


def _negate_each(tree: Tree) -> Tree:
    """The negative of a tree, term by term."""
    return add(*(negate(term) for term in terms(tree)))


def _negative(tree: Tree) -> bool:
    """Whether the sign stands outside: of a sum, the term that would come first whatever its sign decides."""
    return scaled(min(terms(tree), key=_unsigned_order))[0] < 0


def _function(name: str, argument: Tree) -> Tree:
    function = FUNCTIONS[name]
    if isinstance(argument, Number) and (folded := _folded(name, argument.value)) is not None:
        return folded
    if function.parity and _negative(argument):
        result = _function(name, _sum(_negate_each(argument)))
        return result if function.parity == "even" else _product(negate(result))
    if name == "abs":
        outside = [factor for factor in factors(argument) if _not_below_zero(factor)]
        inside = [factor for factor in factors(argument) if not _not_below_zero(factor)]
        return multiply(*outside, *([Call("abs", (multiply(*inside),))] if inside else []))
    if name == "log" and (a := _exponent_of_one_plus(argument)) is not None:
        return _function("softplus", a)
    if name == "sqrt" and split_power(argument)[1] == 2:
        return _function("abs", split_power(argument)[0])
    return Call(name, (argument,))


def _folded(name: str, value: float) -> Number | None:
    result = float(FUNCTIONS[name].run(torch.tensor(value, dtype=torch.float64, device="cpu")))
    return Number(result) if abs(result) < 1e300 else None  # neither infinite nor NaN: that is left for the forward


def _extreme(name: str, a: Tree, b: Tree) -> Tree:
    """max or min of two canonical trees."""
    if a == b:
        return a
    difference = _sum(add(a, _negate_each(b)))
    for sign, (larger, smaller) in ((1.0, (a, b)), (-1.0, (b, a))):
        if _not_below_zero(difference if sign > 0 else _sum(_negate_each(difference))):
            return larger if name == "max" else smaller
    if a == _sum(_negate_each(b)):
        size = _function("abs", a)
        return size if name == "max" else _product(negate(size))
    factor = _common(a, b)
    if factor != 1:
        inner = [_product(multiply(Number(1 / factor), argument)) for argument in (a, b)]
        other = {"max": "min", "min": "max"}[name] if factor < 0 else name
        return _product(multiply(Number(factor), _extreme(other, inner[0], inner[1])))
    return Call(name, tuple(sorted((a, b), key=_order)))


def _common(a: Tree, b: Tree) -> float:
    """A number that both are multiples of, negative where both are."""
    parts = [tree for tree in (a, b) if tree != ZERO]
    sizes = {abs(scaled(tree)[0]) for tree in parts}
    size = sizes.pop() if len(sizes) == 1 and not any(isinstance(tree, Number) for tree in parts) else 1.0
    return -size if all(_negative(tree) for tree in parts) else size


def _not_below_zero(tree: Tree) -> bool:
    """Whether no value can be negative."""
    match tree:
        case Number(value):
            return value >= 0
        case Symbol(name):
            return name == "eps"
        case Call("+" | "*" | "min", arguments):
            return all(map(_not_below_zero, arguments))
        case Call("max", arguments):
            return any(map(_not_below_zero, arguments))
        case Call("smax", (a, b, _)):
            return _not_below_zero(a) and _not_below_zero(b)
        case Call("**", (base, Number(exponent))):
            return exponent % 2 == 0 or _not_below_zero(base)
        case Call(name, _):
            return FUNCTIONS[name].positive
    raise AssertionError(tree)
