"""What is searched: the space that Swish came from, and the smooth maxima of two functions.

A space is a few genes, each with its options. A choice for every gene builds a function; two choices that build the
same function have the same key.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from aconite.errors import SettingsError
from aconite.nn import Expression, expression

__all__ = ["BINARY", "FAMILY", "SPACES", "UNARY", "Candidate", "Space", "core_space", "maxout_space"]

UNARY = (
    "x", "-x", "abs(x)", "x ** 2", "x ** 3", "sqrt(abs(x) + eps)", "beta * x", "x + beta", "log(abs(x) + eps)",
    "exp(x)", "sin(x)", "cos(x)", "sinh(x)", "cosh(x)", "tanh(x)", "asinh(x)", "atan(x)", "sinc(x)", "max(x, 0)",
    "min(x, 0)", "sigmoid(x)", "softplus(x)", "exp(-x ** 2)", "erf(x)", "beta",
)  # fmt: skip
"""The unary functions (paper's account of Ramachandran, Zoph and Le 2017). The root takes |x| + ε, as the logarithm has
it: of x itself it would be NaN for half of all inputs."""

BINARY = (
    "a + b", "a * b", "a - b", "a / (b + eps)", "max(a, b)", "min(a, b)", "sigmoid(a) * b", "exp(-beta * (a - b) ** 2)",
    "exp(-beta * abs(a - b))", "beta * a + (1 - beta) * b",
)  # fmt: skip
"""The binary functions; every ``beta`` of a formula is one parameter."""

FAMILY = (
    "0", "x", "-x", "p1 * x", "p2 * x", "abs(x)", "x ** 2", "tanh(x)", "atan(x)", "asinh(x)", "erf(x)", "sin(x)",
    "sigmoid(x)", "softplus(x)", "exp(-x ** 2)", "max(x, 0)", "min(x, 0)",
)  # fmt: skip
"""The η of which the ``maxout`` space takes the smooth maxima of two."""

_PROBES = torch.linspace(-6, 6, 49, dtype=torch.float64).add(0.0123).unsqueeze(1)
_VALUES = torch.tensor(
    [-1.3, 0.37, 1.0, 1.9], dtype=torch.float64
)  # of every parameter; β < 0 tells max(x, x + β) apart
_SHIFTS = {"p1": 0.11, "p2": -0.23}  # p1 and p2 start elsewhere, so they are not the same


@dataclass(frozen=True)
class Candidate:
    """A function of a space: its formula, the key that equal functions share, and the choices that build it."""

    text: str
    key: str
    choices: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Space:
    """Genes with their options, and how a choice of each becomes a formula."""

    name: str
    genes: Mapping[str, tuple[str, ...]]
    build: Callable[[Mapping[str, str]], expression.Tree]

    @property
    def size(self) -> int:
        """How many choices there are; the functions are fewer."""
        return math.prod(map(len, self.genes.values()))

    def candidate(self, choices: Mapping[str, str]) -> Candidate | None:
        """The function of a choice, or None: it does not depend on x, or divides by zero."""
        try:
            tree = expression.canonical(self.build(choices))
        except SettingsError:
            return None
        if not expression.depends_on_x(tree):
            return None
        key = _key(tree)
        return None if key is None else Candidate(str(tree), key, tuple(choices.items()))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every function once, with the shortest of its formulas; of a large space this takes long.

        >>> [len(maxout_space().candidates), maxout_space().size]
        [151, 289]
        """
        found: dict[str, Candidate] = {}
        for candidate in self._all():
            known = found.get(candidate.key)
            if known is None or len(candidate.text) < len(known.text):
                found[candidate.key] = candidate
        return tuple(found.values())

    def _all(self) -> Iterator[Candidate]:
        for options in itertools.product(*self.genes.values()):
            if (candidate := self.candidate(dict(zip(self.genes, options, strict=True)))) is not None:
                yield candidate


def _key(tree: expression.Tree) -> str | None:
    """Equal for equal functions, since it is made of values; None for a function that is the same everywhere."""
    values = Expression(tree, len(_VALUES), channel_dim=1).double()
    for name, parameter in values.named_parameters():
        parameter.data = _VALUES + _SHIFTS.get(name, 0.0)
    with torch.no_grad():
        y = values(_PROBES.expand(-1, len(_VALUES)).contiguous())
    if bool((y == y[0]).all()):
        return None
    numbers = ",".join(f"{value:.8e}" for value in (y + 0.0).flatten().tolist())  # + 0.0: no negative zero
    return hashlib.sha256(numbers.encode()).hexdigest()[:16]


def core_space(depth: int = 1) -> Space:
    """b(u1, u2) of the unary and binary functions: u1 takes the core unit before, the first one x; u2 takes x.

    >>> space = core_space()
    >>> space.size
    6250
    >>> space.candidate({"binary": "sigmoid(a) * b", "unary a": "beta * x", "unary b": "x"}).text
    'x * sigmoid(beta * x)'
    """
    if not isinstance(depth, int) or depth < 1:
        raise SettingsError(f"depth is {depth!r}: it must be a whole number, at least 1")
    unary = {text: expression.parse(text) for text in UNARY}
    binary = {text: expression.parse(text, ("a", "b")) for text in BINARY}
    units = [""] if depth == 1 else [f" {number}" for number in range(1, depth + 1)]

    def build(choices: Mapping[str, str]) -> expression.Tree:
        tree = expression.parse("x")
        for unit in units:
            a = expression.substitute(unary[choices[f"unary a{unit}"]], {"x": tree})
            tree = expression.substitute(
                binary[choices[f"binary{unit}"]], {"a": a, "b": unary[choices[f"unary b{unit}"]]}
            )
        return tree

    genes = {
        f"{gene}{unit}": options
        for unit in units
        for gene, options in (("binary", BINARY), ("unary a", UNARY), ("unary b", UNARY))
    }
    return Space("core", genes, build)


def maxout_space(depth: int = 1) -> Space:
    """S_β(η_a, η_b): the smooth maxima of two functions of the family, ACON-A to ACON-C among them (section 3).

    >>> maxout_space().candidate({"a": "p1 * x", "b": "p2 * x"}).text
    'smax(p1 * x, p2 * x, beta)'
    """
    if depth != 1:
        raise SettingsError(f"depth is {depth!r}: the maxout space is not nested, leave it at 1")

    def build(choices: Mapping[str, str]) -> expression.Tree:
        return expression.parse(f"smax({choices['a']}, {choices['b']}, beta)")

    return Space("maxout", {"a": FAMILY, "b": FAMILY}, build)


SPACES: Mapping[str, Callable[[int], Space]] = {"core": core_space, "maxout": maxout_space}
