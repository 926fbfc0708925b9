"""From text to tree: the usual signs, with Python's precedence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from aconite.errors import SettingsError, UnknownNameError
from aconite.nn.expression.functions import FUNCTIONS
from aconite.nn.expression.tree import Call, Number, Symbol, Tree, add, multiply, negate, power

__all__ = ["parse"]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|[-+*/(),]))"
)
_PARAMETER = re.compile(r"(?:beta|p)[1-9]?")
_DEEPEST = 40  # brackets in brackets; the tree is walked by recursion


def parse(text: str, inputs: Iterable[str] = ("x",)) -> Tree:
    """The tree of an expression such as ``x * sigmoid(beta * x)``.

    Signs ``+ - * / **`` (to whole powers) and brackets as in Python; functions abs, sqrt, log, exp, sin, cos, sinh,
    cosh, tanh, asinh, atan, sinc (sin(u)/u), sigmoid, softplus, erf, max(a, b), min(a, b) and smax(a, b, beta), the
    smooth maximum S_β(a, b). Symbols: ``x``, the constant ``eps`` (0.001), and parameters beta, beta1 … beta9, p,
    p1 … p9; the same name is the same parameter.

    Args:
        text: the expression.
        inputs: the names of the variables.

    Raises:
        SettingsError: it cannot be read; the message shows where.
        UnknownNameError: a function or symbol that does not exist.

    >>> print(parse("x*sigmoid(beta*x)"))
    x * sigmoid(beta * x)
    >>> parse("x * (beta")
    Traceback (most recent call last):
    aconite.errors.SettingsError: cannot read the expression 'x * (beta': expected ')' at its end
    """
    return _Parser(text, tuple(inputs)).whole()


class _Parser:
    def __init__(self, text: str, inputs: tuple[str, ...]) -> None:
        self.text, self.inputs, self.at, self.depth = text, inputs, 0, 0
        self.token, self.kind, self.start = "", "", 0
        self.advance()

    def whole(self) -> Tree:
        tree = self.sum()
        if self.kind != "end":
            self.fail("expected an operator")
        return tree

    def advance(self) -> str:
        """The current token; the next becomes current."""
        past = self.token
        found = _TOKEN.match(self.text, self.at)
        if found:
            self.kind, self.at = str(found.lastgroup), found.end()
            self.token, self.start = found[self.kind], found.start(self.kind)
        else:
            self.token, self.kind = "", "end"
            rest = self.text[self.at :].strip()
            self.start = len(self.text) - len(self.text[self.at :].lstrip())
            if rest:
                self.token, self.kind = rest[0], "stranger"
        return past

    def fail(self, expected: str) -> NoReturn:
        where = "at its end" if self.kind == "end" else f"at {self.text[self.start :]!r}"
        hint = "; powers are written **" if self.token == "^" else ""
        raise SettingsError(f"cannot read the expression {self.text!r}: {expected} {where}{hint}")

    def take(self, sign: str) -> None:
        if self.token != sign:
            self.fail(f"expected {sign!r}")
        self.advance()

    def sum(self) -> Tree:
        tree = self.product()
        while self.token in ("+", "-"):
            sign, term = self.advance(), self.product()
            tree = add(tree, term if sign == "+" else negate(term))
        return tree

    def product(self) -> Tree:
        tree = self.signed()
        while self.token in ("*", "/"):
            sign, factor = self.advance(), self.signed()
            tree = multiply(tree, factor if sign == "*" else power(factor, -1))
        return tree

    def signed(self) -> Tree:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"more than {_DEEPEST} signs and brackets inside each other")
        if self.token in ("+", "-"):
            sign, tree = self.advance(), self.signed()
            tree = tree if sign == "+" else negate(tree)
        else:
            tree = self.power()
        self.depth -= 1
        return tree

    def power(self) -> Tree:
        base = self.atom()
        if self.token != "**":
            return base
        self.advance()
        exponent = self.signed()
        if not isinstance(exponent, Number) or exponent.value != int(exponent.value):
            self.fail("expected a whole number as exponent (write exp and sqrt for others)")
        return power(base, int(exponent.value))

    def atom(self) -> Tree:
        if self.kind == "number":
            return Number(float(self.advance()))
        if self.token == "(":
            self.advance()
            tree = self.sum()
            self.take(")")
            return tree
        if self.kind != "name":
            self.fail("expected a number, a name or '('")
        name = self.advance()
        if self.token == "(":
            return self.call(name)
        if name not in ("eps", *self.inputs) and not _PARAMETER.fullmatch(name):
            raise UnknownNameError("symbol", name, (*self.inputs, "eps", "beta", "beta1", "p", "p1", "p2"))
        return Symbol(name)

    def call(self, name: str) -> Tree:
        if name not in FUNCTIONS:
            raise UnknownNameError("function", name, FUNCTIONS)
        self.take("(")
        arguments = [self.sum()]
        while self.token == ",":
            self.advance()
            arguments.append(self.sum())
        self.take(")")
        if len(arguments) != (arity := FUNCTIONS[name].arity):
            raise SettingsError(
                f"cannot read the expression {self.text!r}: {name} takes {arity} argument{'s' * (arity > 1)}, "
                f"not {len(arguments)}"
            )
        if name == "smax" and not isinstance(arguments[2], Number | Symbol):
            raise SettingsError(f"the third argument of smax is a parameter or a number, not {arguments[2]}")
        return Call(name, tuple(arguments))
