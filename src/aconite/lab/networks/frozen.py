"""BatchNorms that stay as they are while a network is trained."""

from __future__ import annotations

from typing import Self

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from aconite.nn import ChannelModule

__all__ = ["FreezableNorms"]


class FreezableNorms(nn.Module):
    """A network whose BatchNorms can be frozen."""

    norms_frozen = False

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

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.norms_frozen:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
