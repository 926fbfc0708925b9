"""Where an expression is a member of the family, or holds one, and which activation it is by name."""

from __future__ import annotations

from functools import cache

from aconite.nn.expression.canonical import canonical
from aconite.nn.expression.parse import parse
from aconite.nn.expression.tree import (
    ONE,
    ZERO,
    Call,
    Symbol,
    Tree,
    add,
    depends_on_x,
    factors,
    multiply,
    parameters,
    power,
    rebuilt,
    split_power,
    substitute,
)

__all__ = ["known_name", "with_kernels"]


def with_kernels(tree: Tree) -> Tree:
    """The canonical tree with calls ``acon_c(u, p1, p2, beta)`` and ``relu(u)`` in the place of what they compute."""
    if not isinstance(tree, Call):
        return tree
    if tree.name == "max" and tree.arguments[1] == ZERO:
        return Call("relu", (with_kernels(tree.arguments[0]),))
    outside, acon = _family_member(tree)
    if acon is not None:
        u, *slopes = acon.arguments
        return multiply(*outside, Call("acon_c", (with_kernels(u), *slopes)))
    return rebuilt(tree.name, [with_kernels(argument) for argument in tree.arguments])


def _family_member(tree: Call) -> tuple[tuple[Tree, ...], Call | None]:
    """What stands before the call of ``acon_c`` that the tree is, and that call; None where it is none."""
    match tree:
        case Call("smax", (a, b, beta)):
            (p1, u), (p2, v) = _parted(a), _parted(b)
            u = v if a == ZERO else u
            if depends_on_x(u) and (u == v or b == ZERO):
                return (), Call("acon_c", (u, ZERO if a == ZERO else p1, ZERO if b == ZERO else p2, beta))
        case Call("*", _):
            swish = _swish(tree)
            if swish is not None:
                outside, u, beta = swish
                return (outside,), Call("acon_c", (u, ONE, ZERO, beta))
        case Call("+", (first, second)):
            for smooth, line in ((first, second), (second, first)):
                swish = _swish(smooth)
                if swish is None or _parted(line)[1] != swish[1]:
                    continue
                outside, u, beta = swish  # (p1 − p2)·u·σ(β(p1 − p2)·u) + p2·u
                beta = canonical(multiply(beta, power(outside, -1)))
                if not _divides(beta):
                    p2 = _parted(line)[0]
                    return (), Call("acon_c", (u, canonical(add(outside, p2)), p2, beta))
    return (), None


def _swish(tree: Tree) -> tuple[Tree, Tree, Tree] | None:
    """(c, u, β) where the tree is c·u·σ(βu) with c and β free of x."""
    outside, rest = _parted(tree)
    gates = [factor for factor in factors(rest) if isinstance(factor, Call) and factor.name == "sigmoid"]
    if len(gates) != 1:
        return None
    u = multiply(*(factor for factor in factors(rest) if factor is not gates[0]))
    beta = canonical(multiply(gates[0].arguments[0], power(u, -1))) if depends_on_x(u) else ZERO
    return None if depends_on_x(beta) or _divides(beta) or beta == ZERO else (outside, u, beta)


def _parted(tree: Tree) -> tuple[Tree, Tree]:
    """The factors free of x, and the others."""
    free = [factor for factor in factors(tree) if not depends_on_x(factor)]
    return multiply(*free), multiply(*(factor for factor in factors(tree) if depends_on_x(factor)))


def _divides(tree: Tree) -> bool:
    return any(split_power(factor)[1] < 0 for factor in factors(tree))


_KNOWN = {
    "identity": "x",
    "relu": "max(x, 0)",
    "relu6": "min(max(x, 0), 6)",
    "leaky-relu": "max(x, 0.01 * x)",
    "prelu": "max(x, 0) + p * min(x, 0)",
    "sigmoid": "sigmoid(x)",
    "tanh": "tanh(x)",
    "silu": "x * sigmoid(x)",
    "mish": "x * tanh(softplus(x))",
    "elu": "max(x, 0) + exp(min(x, 0)) - 1",
    "softplus": "softplus(x)",
    "gelu": "0.5 * x * (1 + erf(0.7071067811865476 * x))",
    "hardswish": "x * min(max(x + 3, 0), 6) / 6",
    "maxout": "max(p1 * x, p2 * x)",
    "swish": "x * sigmoid(beta * x)",
    "acon-b": "smax(x, p * x, beta)",
    "acon-c": "smax(p1 * x, p2 * x, beta)",
}


@cache
def _known_forms() -> dict[Tree, str]:
    return {_anonymous(with_kernels(canonical(parse(text)))): name for name, text in _KNOWN.items()}


def known_name(tree: Tree) -> str | None:
    """The name under which `aconite.nn.activation` has this function, or None.

    >>> known_name(parse("x / (1 + exp(-beta * x))"))
    'swish'
    """
    return _known_forms().get(_anonymous(with_kernels(canonical(tree))))


def _anonymous(tree: Tree) -> Tree:
    """The tree with its parameters numbered, since their names do not matter."""
    return substitute(tree, {name: Symbol(f"#{number}") for number, name in enumerate(parameters(tree))})
