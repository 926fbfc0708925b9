"""The brick that the networks are laid from: convolution, BatchNorm and, at most sites, an activation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

__all__ = ["Factory", "conv_norm", "relu"]

Factory = Callable[[int], nn.Module]


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    bias: bool,
    stride: int = 1,
    groups: int = 1,
    activation: Factory | None = None,
    squeeze: Factory | None = None,
) -> nn.Sequential:
    """Return ``conv``, ``norm`` and, where given, ``act`` and ``se``: (N, inputs, H, W) to (N, outputs, H', W').

    The convolution is padded so that H' = ceil(H / stride) for an odd kernel. ``squeeze`` belongs to the brick
    that ends a block's main branch.
    """
    layers = OrderedDict[str, nn.Module](
        conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias),
        norm=nn.BatchNorm2d(outputs),
    )
    if activation is not None:
        layers["act"] = activation(outputs)
    if squeeze is not None:
        layers["se"] = squeeze(outputs)
    return nn.Sequential(layers)


def relu(channels: int) -> nn.Module:
    """The activation of a site that stays ReLU whatever the network's activation is."""
    return nn.ReLU()
