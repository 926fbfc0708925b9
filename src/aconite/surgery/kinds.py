"""Which modules and functions are activations, and the module that stands for each function call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aconite.nn import AconA, AconB, AconC, AconFReLU, FReLU, Maxout, MetaAconC, PReLU, SqueezeExciteReLU

__all__ = ["FUNCTIONS", "INPLACE", "is_activation", "is_sealed", "module_of"]

_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Hardswish, nn.GELU, nn.ELU, nn.Mish,
    AconA, AconB, AconC, MetaAconC, Maxout, PReLU,
)  # fmt: skip
_SEALED = (*_MODULES, FReLU, AconFReLU, SqueezeExciteReLU)
"""Layers whose own function calls are nobody's call sites."""
_FOREIGN = {
    "gelu", "gelutanh", "hardmish", "hardswish", "hswish", "memoryefficientswish", "mish", "newgelu", "prelu",
    "quickgelu", "relu6", "silu", "swish",
}  # fmt: skip
"""Classes of other libraries that compute an activation by hand, by their names in lower case."""


def is_activation(module: nn.Module) -> bool:
    """Whether calls of the module are call sites."""
    if isinstance(module, _MODULES):
        return not isinstance(module, nn.MultiheadAttention)
    name = type(module).__name__.replace("_", "").lower().removesuffix("activation").removesuffix("me")
    return name in _FOREIGN and not module._modules


def is_sealed(module: nn.Module) -> bool:
    """Whether what the module calls inside is its own affair."""
    return isinstance(module, _SEALED)


def _prelu(weight: Tensor) -> nn.Module:
    module = nn.PReLU(weight.numel(), device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        module.weight.copy_(weight.reshape(-1))
    return module


def _takes(build: Callable[..., nn.Module], *names: str) -> tuple[Callable[..., nn.Module], inspect.Signature]:
    """A builder, and how its call's arguments are named."""
    kinds = inspect.Parameter
    parameters = [kinds("input", kinds.POSITIONAL_OR_KEYWORD)]
    parameters += [kinds(name, kinds.POSITIONAL_OR_KEYWORD, default=None) for name in (*names, "inplace")]
    return build, inspect.Signature(parameters)


_BUILDERS: dict[str, tuple[Callable[..., nn.Module], inspect.Signature]] = {
    "relu": _takes(nn.ReLU),
    "relu6": _takes(nn.ReLU6),
    "leaky_relu": _takes(nn.LeakyReLU, "negative_slope"),
    "prelu": _takes(_prelu, "weight"),
    "silu": _takes(nn.SiLU),
    "hardswish": _takes(nn.Hardswish),
    "gelu": _takes(nn.GELU, "approximate"),
    "elu": _takes(nn.ELU, "alpha"),
    "mish": _takes(nn.Mish),
}
_HOMES = (F, torch, Tensor)
FUNCTIONS: dict[Any, str] = {
    getattr(home, name + suffix): name
    for home in _HOMES
    for name in _BUILDERS
    for suffix in ("", "_")
    if hasattr(home, name + suffix)
}
"""Every function and method that is an activation, with its plain name."""
INPLACE = {function for function in FUNCTIONS if getattr(function, "__name__", "").endswith("_")}


def module_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    """The module that computes what this call computes, out of place.

    >>> module_of(F.leaky_relu, (torch.zeros(3), 0.2), {})
    LeakyReLU(negative_slope=0.2)
    """
    build, signature = _BUILDERS[FUNCTIONS[function]]
    given = signature.bind(*args, **{"input" if name == "self" else name: value for name, value in kwargs.items()})
    options = {name: value for name, value in given.arguments.items() if name not in ("input", "inplace")}
    return build(**options)
