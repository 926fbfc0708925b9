"""Parts of a network that stay as they are while it is trained."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aconite.errors import SettingsError
from aconite.nn import ChannelModule

__all__ = ["Freezable"]


class Freezable(nn.Module):
    """A network whose BatchNorms or first layers can be frozen."""

    norms_frozen = False
    stem_frozen = False

    def freeze_norms(self) -> None:
        """From now on every BatchNorm uses its running statistics, in training too, and its weight and bias are fixed.

        The norms inside an activation keep learning weight and bias: they are how Meta-ACON learns β.
        """
        self.norms_frozen = True
        inside = {module for layer in self.modules() if isinstance(layer, ChannelModule) for module in layer.modules()}
        for module in self.modules():
            if isinstance(module, _BatchNorm) and module not in inside:
                module.requires_grad_(False)
        self.train(self.training)

    def freeze_stem(self, body: nn.Module) -> None:
        """From now on what the body's first map depends on is fixed: weights, activations, and the statistics of the
        BatchNorms there.

        Args:
            body: a part of this network; images (N, 3, H, W) to a list of maps.

        Raises:
            SettingsError: the second map is not made of the first one, as in HRNet.
        """
        first, second = _parameters_of_maps(body)
        if not first <= second:
            raise SettingsError(
                "freeze_stem fixes what makes the map of stride 4, but this network's coarser maps are not made of it, "
                "so that nearly everything would be fixed: leave it away (--no-freeze-stem)"
            )
        self.stem_frozen = True
        for parameter in first:
            parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and (self.norms_frozen or (self.stem_frozen and _is_fixed(module))):
                module.eval()
        return self


def _is_fixed(norm: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in norm.parameters())


def _parameters_of_maps(body: nn.Module) -> tuple[set[nn.Parameter], set[nn.Parameter]]:
    """On which the first map depends, and the second: those that have a gradient if the map alone is differentiated.
    In eval mode, which changes no buffer.
    """
    modes = [(module, module.training) for module in body.modules()]
    parameters = [parameter for parameter in body.parameters() if parameter.requires_grad]
    example = torch.zeros(1, 3, 64, 64, device=parameters[0].device, dtype=parameters[0].dtype)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            maps = body.eval()(example)
            first, second = (
                torch.autograd.grad(y.sum(), parameters, allow_unused=True, retain_graph=True) for y in maps[:2]
            )
    finally:
        for module, training in modes:
            module.training = training

    def used(gradients: tuple[Tensor | None, ...]) -> set[nn.Parameter]:
        return {each for each, gradient in zip(parameters, gradients, strict=True) if gradient is not None}

    return used(first), used(second)
