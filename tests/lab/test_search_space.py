"""The spaces: which functions are in them, and that each is there once."""

from __future__ import annotations

import itertools
import random
import re

import pytest
import torch

from aconite.errors import SettingsError, UnknownNameError
from aconite.lab.search import BINARY, FAMILY, UNARY, SearchSettings
from aconite.lab.search.space import core_space, maxout_space
from aconite.nn import Expression, expression

# the unary functions once more, by hand; ε = 0.001, β = b
BY_HAND = {
    "x": lambda x, b: x,
    "-x": lambda x, b: -x,
    "abs(x)": lambda x, b: x.abs(),
    "x ** 2": lambda x, b: x * x,
    "x ** 3": lambda x, b: x * x * x,
    "sqrt(abs(x) + eps)": lambda x, b: (x.abs() + 1e-3) ** 0.5,
    "beta * x": lambda x, b: b * x,
    "x + beta": lambda x, b: x + b,
    "log(abs(x) + eps)": lambda x, b: (x.abs() + 1e-3).log(),
    "exp(x)": lambda x, b: x.exp(),
    "sin(x)": lambda x, b: x.sin(),
    "cos(x)": lambda x, b: x.cos(),
    "sinh(x)": lambda x, b: (x.exp() - (-x).exp()) / 2,
    "cosh(x)": lambda x, b: (x.exp() + (-x).exp()) / 2,
    "tanh(x)": lambda x, b: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "asinh(x)": lambda x, b: (x + (x * x + 1).sqrt()).log(),
    "atan(x)": lambda x, b: x.atan(),
    "sinc(x)": lambda x, b: x.sin() / x,
    "max(x, 0)": lambda x, b: x.clamp(min=0),
    "min(x, 0)": lambda x, b: x.clamp(max=0),
    "sigmoid(x)": lambda x, b: 1 / (1 + (-x).exp()),
    "softplus(x)": lambda x, b: (1 + x.exp()).log(),
    "exp(-x ** 2)": lambda x, b: (-x * x).exp(),
    "erf(x)": lambda x, b: x.erf(),
    "beta": lambda x, b: b + 0 * x,
}
PAIRS = {
    "a + b": lambda a, b, beta: a + b,
    "a * b": lambda a, b, beta: a * b,
    "a - b": lambda a, b, beta: a - b,
    "a / (b + eps)": lambda a, b, beta: a / (b + 1e-3),
    "max(a, b)": lambda a, b, beta: torch.where(a > b, a, b),
    "min(a, b)": lambda a, b, beta: torch.where(a > b, b, a),
    "sigmoid(a) * b": lambda a, b, beta: b / (1 + (-a).exp()),
    "exp(-beta * (a - b) ** 2)": lambda a, b, beta: (-beta * (a - b).square()).exp(),
    "exp(-beta * abs(a - b))": lambda a, b, beta: (-beta * (a - b).abs()).exp(),
    "beta * a + (1 - beta) * b": lambda a, b, beta: beta * a + (1 - beta) * b,
}
X = torch.linspace(-3.1, 2.9, 23, dtype=torch.float64)[:, None]
BETA = torch.tensor([0.3, 1.0, 1.7], dtype=torch.float64)


def value(text: str) -> torch.Tensor:
    layer = Expression(text, 3).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(BETA)
        return layer(X.expand(-1, 3).contiguous())


def test_the_blocks_are_the_papers() -> None:
    assert len(UNARY) == 25
    assert len(BINARY) == 10
    assert set(BY_HAND) == set(UNARY)
    assert set(PAIRS) == set(BINARY)


def test_a_candidate_is_the_function_of_its_choices() -> None:
    draws = random.Random(0)
    space = core_space()
    choices = list(itertools.product(BINARY, UNARY, UNARY))
    checked = 0
    for binary, a, b in draws.sample(choices, 400):
        candidate = space.candidate({"binary": binary, "unary a": a, "unary b": b})
        expected = PAIRS[binary](BY_HAND[a](X, BETA), BY_HAND[b](X, BETA), BETA) + 0 * X * BETA
        if candidate is None:
            assert torch.allclose(expected, expected[:1].expand_as(expected)), (binary, a, b)
            continue
        if binary == "a / (b + eps)":
            near_a_pole = expected.abs() > 1e6  # where digits are lost
            expected = torch.where(near_a_pole, value(candidate.text), expected)
        torch.testing.assert_close(value(candidate.text), expected, rtol=1e-6, atol=1e-8, msg=str((binary, a, b)))
        checked += 1
    assert checked > 350


def test_nested_units() -> None:
    space = core_space(2)
    assert space.size == 6250**2
    choices = {
        "binary 1": "a * b", "unary a 1": "x", "unary b 1": "sigmoid(x)",
        "binary 2": "a - b", "unary a 2": "tanh(x)", "unary b 2": "beta * x",
    }  # fmt: skip
    candidate = space.candidate(choices)
    assert candidate is not None
    assert candidate.text == "tanh(x * sigmoid(x)) - beta * x"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("sigmoid(a) * b", "beta * x", "x"), ("a * b", "x", "sigmoid(x)"), False),
        (("a * b", "x", "sigmoid(x)"), ("sigmoid(a) * b", "x", "x"), True),
        (("a + b", "x", "abs(x)"), ("a + b", "max(x, 0)", "max(x, 0)"), True),  # by its values alone
        (("max(a, b)", "x", "x + beta"), ("a + b", "x", "beta"), False),  # equal for β > 0 only
        (("beta * a + (1 - beta) * b", "x", "x"), ("max(a, b)", "x", "x"), True),
        (("beta * a + (1 - beta) * b", "x", "sin(x)"), ("beta * a + (1 - beta) * b", "sin(x)", "x"), False),
    ],
)
def test_equal_functions_share_their_key(first: tuple[str, ...], second: tuple[str, ...], same: bool) -> None:
    space = core_space()
    keys = set()
    for choice in (first, second):
        candidate = space.candidate(dict(zip(space.genes, choice, strict=True)))
        assert candidate is not None
        keys.add(candidate.key)
    assert len(keys) == (1 if same else 2)


def test_what_does_not_depend_on_x_is_no_candidate() -> None:
    space = core_space()
    for choice in (("a - b", "x", "x"), ("a * b", "beta", "beta"), ("exp(-beta * abs(a - b))", "sin(x)", "sin(x)")):
        assert space.candidate(dict(zip(space.genes, choice, strict=True))) is None


def test_every_candidate_of_the_maxout_space_is_there_once() -> None:
    space = maxout_space()
    candidates = space.candidates
    assert len({candidate.key for candidate in candidates}) == len(candidates)
    texts = {candidate.text for candidate in candidates}
    assert {"smax(x, 0, beta)", "smax(p1 * x, p2 * x, beta)"} <= texts
    assert len(FAMILY) == 17
    # every pair, and each function with itself, but 0; S_β(max(x, 0), min(x, 0)) is S_β(x, 0)
    assert len(candidates) == 17 * 16 // 2 + 16 - 1
    for candidate in candidates:
        assert space.candidate(dict(candidate.choices)) == candidate


@pytest.mark.slow
def test_the_whole_core_space() -> None:
    space = core_space()
    candidates = space.candidates
    assert len({candidate.key for candidate in candidates}) == len(candidates) == 4040
    names = {expression.known_name(expression.parse(candidate.text)) for candidate in candidates}
    assert {"identity", "relu", "silu", "swish", "softplus", "sigmoid", "tanh"} <= names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": "cores"}, "space is 'cores': choose one of core, maxout"),
        ({"strategy": "luck"}, "choose one of exhaustive, random, evolution, tpe"),
        ({"strategy": "random"}, "has no end of its own: give trials or minutes"),
        ({"depth": 2}, "39,062,500 members, too many to try each"),
        ({"space": "maxout", "depth": 2}, "not nested"),
        ({"depth": 0}, "depth is 0"),
        ({"trials": 0}, "trials is 0"),
        ({"minutes": 0.0}, "minutes is 0.0: it must be a number above 0"),
        ({"sample": 60}, "cannot be more than the population, 50"),
        ({"epochs": 0}, "epochs is 0"),
        ({"model": "resnet9"}, "unknown model 'resnet9'"),
    ],
)
def test_settings_that_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises((SettingsError, UnknownNameError), match=re.escape(words)):
        SearchSettings(**options)  # type: ignore[arg-type]
