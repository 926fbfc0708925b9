"""Which modules are activations, and the p1, p2 and β that they hold."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from aconite import nn as layers

__all__ = ["BATCH_NORM_ACON", "BATCH_NORM_META", "GENERATES_BETA", "SWITCHED", "ShapeParameters"]
__all__ += ["is_activation", "is_pointwise", "shape_parameters"]

BATCH_NORM_ACON = (layers.BatchNormAconC1d, layers.BatchNormAconC2d, layers.BatchNormAconC3d)
BATCH_NORM_META = (layers.BatchNormMetaAconC1d, layers.BatchNormMetaAconC2d, layers.BatchNormMetaAconC3d)
GENERATES_BETA = (layers.MetaAconC, *BATCH_NORM_META)
SWITCHED = (layers.AconA, layers.AconB, layers.AconC, *BATCH_NORM_ACON, *GENERATES_BETA)
"""The layers whose gate is σ(β(p1 − p2)x)."""
_TORCH = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid,
    nn.Mish, nn.PReLU, nn.ReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh,
    nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
_ACROSS = (layers.FReLU, layers.AconFReLU, layers.SqueezeExcite)


class ShapeParameters(NamedTuple):
    """p1, p2 and β of a layer, (C,) each in float64; β is None where the input generates it."""

    p1: Tensor
    p2: Tensor
    beta: Tensor | None


def is_activation(module: nn.Module) -> bool:
    """Whether the module is an activation: one of torch's, or one of Aconite's layers with a shape of its own."""
    if isinstance(module, layers.SqueezeExcite):
        return isinstance(module, layers.SqueezeExciteReLU)  # on its own it scales channels
    return isinstance(module, (layers.ChannelModule, *SWITCHED, *_TORCH))


def is_pointwise(module: nn.Module) -> bool:
    """Whether one value of the output depends on the same value of the input alone."""
    if isinstance(module, layers.MetaAconC):
        return module.granularity == "pixel"
    return not isinstance(module, (*_ACROSS, *BATCH_NORM_ACON, *BATCH_NORM_META))


def shape_parameters(model: nn.Module) -> dict[str, ShapeParameters]:
    """p1, p2 and β of every ACON layer of a model, by the layer's name; ACON-A's p1 is 1 and its p2 0.

    Copies in float64 on the CPU: no hooks, no data, for a histogram in the middle of a training.

    >>> [values] = shape_parameters(nn.Sequential(layers.AconC(2, init="swish"))).values()
    >>> values
    ShapeParameters(p1=tensor([1., 1.], dtype=torch.float64), p2=tensor([0., 0.], dtype=torch.float64),
                    beta=tensor([1., 1.], dtype=torch.float64))
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, SWITCHED) and getattr(module, "channels", 1) is not None:
            found[name] = values_of(module)
    return found


def values_of(module: nn.Module) -> ShapeParameters:
    """Of one layer of `SWITCHED`."""
    beta = None if isinstance(module, GENERATES_BETA) else getattr(module, "beta", None)
    given = (getattr(module, "p1", 1.0), getattr(module, "p2", 0.0), 0.0 if beta is None else beta)
    values = [torch.as_tensor(value).detach().double().cpu().reshape(-1).clone() for value in given]
    count = max(value.numel() for value in values)
    p1, p2, last = (value.expand(count) for value in values)
    return ShapeParameters(p1, p2, None if beta is None else last)
