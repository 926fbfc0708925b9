"""Activations by name: the ACON family and its rivals, each made for a channel count."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from aconite.errors import SettingsError, UnknownNameError
from aconite.nn.acon import AconA, AconB, AconC
from aconite.nn.baselines import Maxout, PReLU
from aconite.nn.channels import ChannelModule
from aconite.nn.expression import Expression
from aconite.nn.funnel import AconFReLU, FReLU
from aconite.nn.initial import Init, check_init
from aconite.nn.meta import MetaAconC
from aconite.nn.squeeze import SqueezeExciteReLU

__all__ = ["activation", "activations", "check_activation"]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    line: str
    build: Callable[..., nn.Module]
    has_init: bool = False


_ENTRIES: dict[str, _Entry] = {
    "identity": _Entry(line="x: the linear network", build=nn.Identity),
    "relu": _Entry(line="max(x, 0)", build=nn.ReLU),
    "relu6": _Entry(line="min(max(x, 0), 6)", build=nn.ReLU6),
    "leaky-relu": _Entry(line="max(x, 0.01x)", build=nn.LeakyReLU),
    "prelu": _Entry(line="x for x > 0, p·x below; p learnt per channel", build=PReLU),
    "sigmoid": _Entry(line="σ(x) = 1 / (1 + e⁻ˣ)", build=nn.Sigmoid),
    "tanh": _Entry(line="tanh x", build=nn.Tanh),
    "silu": _Entry(line="x·σ(x): Swish with β = 1 fixed", build=nn.SiLU),
    "mish": _Entry(line="x·tanh(log(1 + eˣ))", build=nn.Mish),
    "elu": _Entry(line="x for x > 0, eˣ − 1 below", build=nn.ELU),
    "softplus": _Entry(line="log(1 + eˣ)", build=nn.Softplus),
    "gelu": _Entry(line="x·Φ(x), Φ the normal distribution function", build=nn.GELU),
    "hardswish": _Entry(line="x·relu6(x + 3)/6", build=nn.Hardswish),
    "maxout": _Entry(line="max(p1·x, p2·x); p1, p2 learnt per channel", build=Maxout, has_init=True),
    "frelu": _Entry(line="max(x, BN(DW(x))): funnel ReLU, 4-D only", build=FReLU),
    "se-relu": _Entry(line="squeeze-and-excitation of ReLU", build=SqueezeExciteReLU),
    "swish": _Entry(line="x·σ(βx); β learnt per channel from 1", build=AconA),
    "acon-a": _Entry(line="another name of swish", build=AconA),
    "acon-b": _Entry(line="smooth maximum of x and p2·x; p2, β learnt per channel", build=AconB, has_init=True),
    "acon-c": _Entry(line="smooth maximum of p1·x and p2·x; p1, p2, β learnt per channel", build=AconC, has_init=True),
    "meta-acon": _Entry(line="ACON-C with β from the input, per channel", build=MetaAconC, has_init=True),
    "meta-acon-layer": _Entry(
        line="ACON-C with β from the input, per sample", build=partial(MetaAconC, granularity="layer"), has_init=True
    ),
    "meta-acon-pixel": _Entry(
        line="ACON-C with β from the input, per pixel", build=partial(MetaAconC, granularity="pixel"), has_init=True
    ),
    "acon-frelu": _Entry(line="smooth maximum of x and BN(DW(x)): smooth FReLU, 4-D only", build=AconFReLU),
}


def check_activation(name: str) -> None:
    """Refuse what `activation` does not take as a name.

    Raises:
        UnknownNameError: neither one of `activations` nor a formula.
        SettingsError: a formula that cannot be read.
    """
    _entry(name)


def _entry(name: Any) -> _Entry:
    """What is known about a name; the word x, a bracket or an operator other than - tells a formula from a name."""
    if not isinstance(name, str):
        raise UnknownNameError("activation", str(name), _ENTRIES)
    if name in _ENTRIES:
        return _ENTRIES[name]
    if re.search(r"\bx\b|[()+*/]", name) is None:
        raise UnknownNameError("activation", name, _ENTRIES)
    tree = Expression(name).tree
    return _Entry(line=name, build=partial(Expression, tree), has_init=True)


def activations() -> Mapping[str, str]:
    """Every name that `activation` takes, with one line on what it is.

    >>> activations()["acon-c"]
    'smooth maximum of p1·x and p2·x; p1, p2, β learnt per channel'
    """
    return MappingProxyType({name: entry.line for name, entry in _ENTRIES.items()})


def activation(
    name: str, channels: int | None = None, *, init: Init = "paper", channel_dim: int = 1, **options: Any
) -> nn.Module:
    """A new activation layer by name.

    Args:
        name: one of `activations`, or a formula such as ``"x * sigmoid(beta * x)"`` (see `aconite.nn.Expression`).
        channels: C, or None to learn it from the first input; layers without channels ignore it.
        init: where p1, p2 and β start, for the layers that draw them (see `aconite.nn.AconC`); others ignore it.
        channel_dim: where the channels are.
        options: further arguments of the layer's constructor, such as ``r=8`` for "meta-acon"; ``inplace`` is accepted
            for every name, since generic code passes it, and ignored.

    Raises:
        UnknownNameError: the name is not known; the message suggests the nearest.
        SettingsError: the layer does not take these options, or no such channel_dim; a formula that cannot be read.

    >>> activation("acon-c", 64, init="near-swish")
    AconC(64)
    >>> activation("max(x, sin(x))")
    Expression(max(x, sin(x)))
    """
    entry = _entry(name)
    check_init(init)
    options.pop("inplace", None)
    kind: Any = entry.build.func if isinstance(entry.build, partial) else entry.build
    if entry.has_init:
        options["init"] = init
    if issubclass(kind, ChannelModule):
        options["channels"] = channels
        if not issubclass(kind, FReLU | AconFReLU):
            options["channel_dim"] = channel_dim
        elif channel_dim != 1:
            raise SettingsError(
                f"{name} looks at neighbouring pixels of (N, C, H, W) and takes channel_dim=1 only, not {channel_dim}"
            )
    try:
        return entry.build(**options)
    except TypeError as error:
        raise SettingsError(f"activation {name!r} does not take these options: {error}") from error
