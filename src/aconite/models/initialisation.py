"""The two rules by which the reference code sets a network's first weights.

A rule is a function of a module's dotted name and the module: it sets that one module's own parameters,
drawing from torch's global stream, and does nothing to a module of a kind that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

__all__ = ["Rule", "kaiming", "scaled_normal"]

Rule = Callable[[str, nn.Module], None]


def scaled_normal(name: str, module: nn.Module) -> None:
    """The rule of the ShuffleNetV2 and TFNet reference code.

    A convolution's weights, of shape (out, in / groups, k, k), are drawn from N(0, (groups / in)²); those
    of the stem, of a funnel (``conv_frelu``) and of linear layers from N(0, 0.01²). Biases are 0. BatchNorm
    starts at scale 1 and shift 1e-4.
    """
    match module:
        case nn.Conv2d():
            small = name.startswith("stem.") or "frelu" in name
            nn.init.normal_(module.weight, 0.0, 0.01 if small else 1 / module.weight.shape[1])
        case nn.Linear():
            nn.init.normal_(module.weight, 0.0, 0.01)
        case nn.BatchNorm2d():
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 1e-4)
            return
        case _:
            return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def kaiming(name: str, module: nn.Module) -> None:
    """The rule of the ResNet reference code.

    A convolution's weights are drawn from N(0, 2 / (out·k²)) (He et al. 2015, by fan-out). The biases of
    convolutions and the linear layer start as torch has it, uniformly within ±1/√fan_in; BatchNorm at scale
    1 and shift 0.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        module.reset_parameters()
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
