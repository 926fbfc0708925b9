"""What the named functions of an expression compute, in plain torch operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["EPS_VALUE", "FUNCTIONS", "Function", "Value"]

Value = Tensor | float

EPS_VALUE = 1e-3
"""The ε of log(|x| + ε), √(|x| + ε) and a/(b + ε): slopes up to 1/ε stay harmless in float32."""


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of tensors; ``parity`` says what f(−x) is, ``positive`` that no value is below 0."""

    run: Callable[..., Tensor]
    arity: int = 1
    parity: Literal["odd", "even"] | None = None
    positive: bool = False


def _sinc(u: Tensor) -> Tensor:
    # sin(u)/u; torch's has the factor π inside
    return torch.sinc(u / math.pi)


def _softplus(u: Tensor) -> Tensor:
    return F.softplus(u, threshold=40)  # torch's threshold of 20 is wrong by 2e-9, which float64 sees


def _tensors(*values: Value) -> tuple[Tensor, ...]:
    """The values with numbers made tensors like the others."""
    like = next(
        (value for value in values if isinstance(value, Tensor)), torch.empty((), dtype=torch.float64, device="cpu")
    )
    return tuple(
        v if isinstance(v, Tensor) else torch.full((), v, dtype=like.dtype, device=like.device) for v in values
    )


def _smooth_maximum(a: Value, b: Value, beta: Value) -> Tensor:
    first, second, factor = _tensors(a, b, beta)
    difference = first - second
    return difference * torch.sigmoid(factor * difference) + second


FUNCTIONS = {
    "abs": Function(run=torch.abs, parity="even", positive=True),
    "sqrt": Function(run=torch.sqrt, positive=True),
    "log": Function(run=torch.log),
    "exp": Function(run=torch.exp, positive=True),
    "sin": Function(run=torch.sin, parity="odd"),
    "cos": Function(run=torch.cos, parity="even"),
    "sinh": Function(run=torch.sinh, parity="odd"),
    "cosh": Function(run=torch.cosh, parity="even", positive=True),
    "tanh": Function(run=torch.tanh, parity="odd"),
    "asinh": Function(run=torch.asinh, parity="odd"),
    "atan": Function(run=torch.atan, parity="odd"),
    "sinc": Function(run=_sinc, parity="even"),
    "sigmoid": Function(run=torch.sigmoid, positive=True),
    "softplus": Function(run=_softplus, positive=True),
    "erf": Function(run=torch.erf, parity="odd"),
    "max": Function(run=lambda a, b: torch.maximum(*_tensors(a, b)), arity=2),
    "min": Function(run=lambda a, b: torch.minimum(*_tensors(a, b)), arity=2),
    "smax": Function(run=_smooth_maximum, arity=3),
}
