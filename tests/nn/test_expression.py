"""Text, tree and canonical form, held against what Python reads in the text, in 130 digits and in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aconite.errors import SettingsError, UnknownNameError
from aconite.nn import expression

X = torch.tensor([-30.0, -3.3, -1.0, -0.4, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.7, 1.0, 2.5, 30.0], dtype=torch.float64)
PARAMETERS = {"beta": 0.8, "beta1": -0.3, "p": 0.2, "p1": 1.1, "p2": -0.4}
PYTHON = {
    name: getattr(torch, name)
    for name in ("abs", "sqrt", "log", "exp", "sin", "cos", "sinh", "cosh", "tanh", "asinh", "atan", "sigmoid", "erf")
}


def wide(value: torch.Tensor | float) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def weighted(values: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    return (values * torch.softmax(beta * values, 0)).sum(0)


PYTHON |= {
    "eps": 1e-3,
    "sinc": lambda u: torch.where(u == 0, 1.0, u.sin() / torch.where(u == 0, 1.0, u)),
    "softplus": lambda u: torch.logaddexp(u, torch.zeros_like(u)),
    "max": lambda a, b: torch.maximum(wide(a), wide(b)),
    "min": lambda a, b: torch.minimum(wide(a), wide(b)),
    "smax": lambda a, b, beta: weighted(torch.stack(torch.broadcast_tensors(a, b)), beta),
}


def python_value(text: str, x: torch.Tensor) -> torch.Tensor:
    """The text as Python reads it, with torch's functions. Numbers become tensors so that 1 / 0 is no exception."""
    names = {name: wide(value) for name, value in PARAMETERS.items()}
    functions = {
        name: (lambda *a, f=value: f(*map(wide, a))) if callable(value) else wide(value)
        for name, value in PYTHON.items()
    }
    return wide(eval(text, functions | names | {"x": x})).expand_as(x)


def tree_value(tree: expression.Tree, x: torch.Tensor) -> torch.Tensor:
    return python_value(str(tree), x)


# The same reading in 130 digits, in which 1 + exp(-230) is not 1: float64 reads log(1 + exp(-30)) wrong by 1 in 1000.
MP = mpmath.mp.clone()
MP.dps = 130
NOTHING = MP.nan  # where a value is undefined, or too large or small for these digits


def within(limit: float, function: Callable[[Any], Any], least: float = -math.inf) -> Callable[[Any], Any]:
    return lambda u: function(u) if least <= u and abs(u) <= limit else NOTHING


def either(choose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: NOTHING if MP.isnan(a) or MP.isnan(b) else choose(a, b)


def gate(u: Any) -> Any:
    return (1 + MP.tanh(u / 2)) / 2


EXACT = {
    "abs": abs,
    "sqrt": within(math.inf, MP.sqrt, 0),
    "log": within(math.inf, MP.log, 1e-300),
    "exp": within(230, MP.exp),
    "sin": within(1e30, MP.sin),
    "cos": within(1e30, MP.cos),
    "sinh": within(230, MP.sinh),
    "cosh": within(230, MP.cosh),
    "tanh": MP.tanh,
    "asinh": MP.asinh,
    "atan": MP.atan,
    "erf": MP.erf,
    "sigmoid": within(math.inf, gate, -230),
    "sinc": within(1e30, lambda u: MP.sin(u) / u if u else MP.one),
    "softplus": within(math.inf, lambda u: max(u, 0) + MP.log1p(MP.exp(-abs(u))), -230),
    "max": either(max),
    "min": either(min),
    "smax": lambda a, b, beta: a * gate(beta * (a - b)) + b * gate(beta * (b - a)),
    "eps": MP.mpf(1e-3),
}


def exact_value(text: str, step: float = 0) -> torch.Tensor:
    """The text's values a step beside X; with a step, the slopes to that side."""
    code = compile(text, "text", "eval")
    names = EXACT | {name: MP.mpf(value) for name, value in PARAMETERS.items()}

    def at(x: Any) -> Any:
        try:
            return MP.mpf(eval(code, names | {"x": x}))
        except ZeroDivisionError:
            return NOTHING

    points = [MP.mpf(x) for x in X.tolist()]
    values = [(at(x + step) - at(x)) / step if step else at(x) for x in points]
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def with_gradient(text: str) -> tuple[torch.Tensor, torch.Tensor]:
    x = X.clone().requires_grad_()
    y = python_value(text, x)
    slope = torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)
    return y.detach(), slope


ROUND_TRIPS = [
    "x",
    "x * sigmoid(beta * x)",
    "-x",
    "x ** 2",
    "-x ** 2",
    "(x + beta) ** 3",
    "exp(-x ** 2)",
    "exp(-beta * (x - abs(x)) ** 2)",
    "beta * x + (1 - beta) * sin(x)",
    "x / (abs(x) + eps)",
    "1 / (x + eps)",
    "x / (beta * exp(x))",
    "x - (beta + 1)",
    "max(p1 * x, p2 * x)",
    "smax(p1 * x, p2 * x, beta)",
    "log(abs(x) + eps)",
    "0.5 * x * (1 + erf(0.7071067811865476 * x))",
    "-(x + beta) * tanh(x)",
    "1e-09 * x",
    "x / x ** 2",
    "-2 * x",
]


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_text_round_trips(text: str) -> None:
    assert str(expression.parse(text)) == text or text == "x / x ** 2"
    assert expression.parse(str(expression.parse(text))) == expression.parse(text)
    torch.testing.assert_close(tree_value(expression.parse(text), X), python_value(text, X), equal_nan=True)


# texts as people and machines write them: redundant brackets, signs and constants included
LEAVES = st.sampled_from(["x", "x", "x", "beta", "p1", "eps", "0", "1", "2", "0.5", "1.5"])
UNARY = (
    "-{}", "({})", "abs({})", "({}) ** 2", "({}) ** 3", "log(abs({}) + eps)", "sqrt(abs({}) + eps)", "sin({})",
     "cos({})", "tanh({})", "atan({})", "asinh({})", "sinc({})", "sigmoid({})", "softplus({})", "log(1 + exp({}))",
     "erf({})", "exp(-({}) ** 2)", "1 / (1 + exp(-({})))", "max({}, 0)", "min(0, {})", "sinh(tanh({}))",
     "cosh(sin({}))",
)  # fmt: skip
BINARY = st.sampled_from(
    ["({0}) + ({1})", "({0}) - ({1})", "({0}) * ({1})", "({0}) / (abs({1}) + eps)", "max({0}, {1})", "min({0}, {1})",
     "sigmoid({0}) * ({1})", "smax({0}, {1}, beta)", "beta * ({0}) + (1 - beta) * ({1})", "({0}) / ({1})"]
)  # fmt: skip
TEXTS = st.recursive(
    LEAVES,
    lambda inner: st.builds(str.format, st.sampled_from(UNARY), inner) | st.builds(str.format, BINARY, inner, inner),
    max_leaves=6,
)


def parsed(text: str) -> expression.Tree:
    try:
        tree = expression.parse(text)
        expression.canonical(tree)
        return tree
    except SettingsError as error:
        assume("divides by zero" not in str(error))  # 1 / 0, written out, or 1 / sin(0)
        raise


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_as_python_reads_it(text: str) -> None:
    tree = parsed(text)
    assert expression.parse(str(tree)) == tree
    ours, theirs = exact_value(str(tree)), exact_value(text)
    finite = theirs.isfinite()
    torch.testing.assert_close(ours[finite], theirs[finite], rtol=1e-6, atol=1e-8)


@given(TEXTS)
@example("(eps) / (log(1 + exp(x)))")
@settings(max_examples=200, deadline=None)
def test_the_canonical_form_is_the_same_function(text: str) -> None:
    tree = parsed(text)
    form = expression.canonical(tree)
    assert expression.canonical(form) == form
    assert expression.parse(str(form)) == form
    value, again = exact_value(text), exact_value(str(form))
    finite = value.isfinite() & (value.abs() < 1e12)
    assert ((again - value)[finite].abs() <= 1e-6 * (value[finite].abs() + 1)).all(), (text, str(form))
    # where the slopes on both sides agree there is only one gradient
    left, right = (exact_value(text, step) for step in (-1e-30, 1e-30))
    smooth = finite & (right.abs() < 1e6) & ((left - right).abs() <= 1e-4 * (1 + right.abs()))
    bound = 1e-5 * (1 + right.abs())
    assert ((exact_value(str(form), 1e-30) - right)[smooth].abs() <= bound[smooth]).all(), (text, str(form))
    # float64 gets no less from the form than from the text
    (y, slope), (z, other) = with_gradient(text), with_gradient(str(form))
    finite &= y.isfinite()
    assert ((z - value).abs() <= (y - value).abs() + 1e-6 * (value.abs() + 1))[finite].all(), (text, str(form))
    smooth &= (slope - right).abs() <= 1e-3 * (1 + right.abs())  # autograd finds it in the text
    assert ((other - right).abs() <= (slope - right).abs() + bound)[smooth].all(), (text, str(form))


def test_the_canonical_form_of_each_function_of_a_function() -> None:
    for outer, inner in itertools.product(UNARY, UNARY):
        text = outer.format(inner.format("x"))
        y, z = (python_value(some, X) for some in (text, str(expression.canonical(expression.parse(text)))))
        finite = y.isfinite()
        assert ((z - y)[finite].abs() <= 1e-9 * (y[finite].abs() + 1)).all(), text


EQUAL = [
    ("x * sigmoid(beta * x)", "sigmoid(x * beta) * x", "x / (1 + exp(-beta * x))", "x * (1 / (exp(-x * beta) + 1))"),
    ("x", "-(-x)", "max(x, x)", "max(x, 0) + min(x, 0)", "x + 0", "1 * x", "x ** 1", "x - 0", "2 * x - x", "x * x / x"),
    ("abs(x)", "abs(-x)", "max(x, -x)", "sqrt(x ** 2)", "-min(x, -x)", "abs(abs(x))", "max(abs(x), 0)"),
    ("-min(x, 0)", "max(-x, 0)", "max(0, 0 - x)"),
    ("x ** 2", "abs(x) ** 2", "abs(x ** 2)", "(-x) ** 2", "x * x", "max(x ** 2, 0)"),
    ("softplus(x)", "log(1 + exp(x))", "log(exp(x) + 1)", "max(softplus(x), 0)"),
    ("exp(x + beta)", "exp(x) * exp(beta)", "1 / exp(-x - beta)"),
    ("smax(x, abs(x), beta)", "smax(abs(x), x, beta)"),
    ("3 * max(beta, x)", "max(3 * x, 3 * beta)"),
    ("-x * sinh(x)", "x * sinh(-x)", "sinh(x) * -x"),
    ("(x - beta) ** 2", "(beta - x) ** 2"),
    ("abs(x) * exp(x)", "abs(x * exp(x))"),
    ("0", "x - x", "min(abs(x), 0)", "0 * x"),
    ("1", "exp(x - x)", "cos(0)", "x / x"),
]


@pytest.mark.parametrize("texts", EQUAL, ids=lambda texts: texts[0])
def test_equal_functions_have_one_form(texts: tuple[str, ...]) -> None:
    assert {str(expression.canonical(expression.parse(text))) for text in texts} == {texts[0]}


def test_different_functions_keep_apart() -> None:
    texts = ["x", "-x", "beta * x", "beta1 * x", "x + beta", "sin(x)", "max(x, 0)", "min(x, 0)", "x * abs(x)", "x ** 3"]
    assert len({expression.canonical(expression.parse(text)) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", SettingsError, "expected a number, a name or '(' at its end"),
        ("x +", SettingsError, "at its end"),
        ("x * (beta", SettingsError, "expected ')' at its end"),
        ("x)", SettingsError, "expected an operator at ')'"),
        ("x ^ 2", SettingsError, "powers are written **"),
        ("x ** 0.5", SettingsError, "a whole number as exponent (write exp and sqrt for others)"),
        ("x ** beta", SettingsError, "a whole number as exponent"),
        ("2x", SettingsError, "expected an operator at 'x'"),
        ("9 ** 9999 * x", SettingsError, "too large"),
        ("1e300 * 1e300 * x", SettingsError, "too large"),
        ("x / 0", SettingsError, "divides by zero"),
        ("sigmod(x)", UnknownNameError, "unknown function 'sigmod': did you mean 'sigmoid'?"),
        ("x * bta", UnknownNameError, "unknown symbol 'bta': did you mean 'beta'?"),
        ("max(x)", SettingsError, "max takes 2 arguments, not 1"),
        ("tanh(x, x)", SettingsError, "tanh takes 1 argument, not 2"),
        ("smax(x, 0, x * x)", SettingsError, "the third argument of smax is a parameter or a number, not x * x"),
        ("(" * 5000 + "x" + ")" * 5000, SettingsError, "inside each other"),
        ("x; y", SettingsError, "at '; y'"),
    ],
)
def test_mistakes(text: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as raised:
        expression.parse(text)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x", "identity"),
        ("max(x, 0)", "relu"),
        ("0.5 * (x + abs(x))", None),  # ReLU too, but by no rule
        ("x * sigmoid(x)", "silu"),
        ("smax(x, 0, 1)", "silu"),
        ("x * sigmoid(beta3 * x)", "swish"),
        ("smax(0, x, beta)", "swish"),
        ("(p1 - p2) * x * sigmoid(beta * (p1 - p2) * x) + p2 * x", "acon-c"),
        ("smax(p1 * x, p2 * x, beta)", "acon-c"),
        ("(1 - p) * x * sigmoid(beta * (1 - p) * x) + p * x", "acon-b"),
        ("x * tanh(log(1 + exp(x)))", "mish"),
        ("max(p1 * x, p2 * x)", "maxout"),
        ("max(x, 0) + p * min(x, 0)", "prelu"),
        ("tanh(x)", "tanh"),
        ("sin(x)", None),
        ("beta * x", None),
    ],
)
def test_known_functions_have_their_names(text: str, name: str | None) -> None:
    assert expression.known_name(expression.parse(text)) == name


def test_every_known_name_is_that_activation() -> None:
    from aconite.nn import activation
    from aconite.nn.expression.native import _KNOWN

    x = torch.linspace(-8, 8, 97, dtype=torch.float64)[None]
    for name, text in _KNOWN.items():
        layer = activation(name, 97, init="swish").double()
        values = {"beta": wide(1.0), "p1": wide(1.0), "p2": wide(0.0), "p": wide(0.25 if name == "prelu" else 0.0)}
        expected = eval(text, PYTHON | values | {"x": x})
        torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-9, atol=1e-9, msg=name)
        assert math.isfinite(float(expected.sum()))
