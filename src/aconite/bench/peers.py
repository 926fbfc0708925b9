"""What the library is timed against, restated from the published formulas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PublishedAconC", "PublishedMetaAconC", "SqueezeExciteThenReLU", "compile_peer"]


class PublishedAconC(nn.Module):
    """ACON-C as its published formula reads, with parameters of shape (1, C, 1, …): each operation passes over
    memory.
    """

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        shape = (1, channels, *(1,) * (ndim - 2))
        self.p1, self.p2 = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape))
        self.beta = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """The formula, with the difference computed where it is written."""
        beta = self._beta(x)
        return (self.p1 * x - self.p2 * x) * torch.sigmoid(beta * (self.p1 * x - self.p2 * x)) + self.p2 * x

    def _beta(self, x: Tensor) -> Tensor:
        return self.beta


class PublishedMetaAconC(PublishedAconC):
    """Meta-ACON as published: 1×1 convolutions with BatchNorm on the mean over positions, r = 16. Four dimensions
    only.
    """

    def __init__(self, channels: int, ndim: int = 4) -> None:
        super().__init__(channels, ndim)
        del self.beta
        hidden = max(16, channels // 16)
        self.generator = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.Conv2d(hidden, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def _beta(self, x: Tensor) -> Tensor:
        beta: Tensor = torch.sigmoid(self.generator(x.mean(dim=2, keepdim=True).mean(dim=3, keepdim=True)))
        return beta


class SqueezeExciteThenReLU(nn.Module):
    """Squeeze-and-excitation and ReLU in torch's own modules, at Meta-ACON's hidden width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(16, channels // 16)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """relu(x) scaled per sample and channel."""
        x = torch.relu(x)
        scaled: Tensor = x * self.excite(x)
        return scaled


def compile_peer(module: nn.Module, **options: Any) -> Any:
    """The module under torch.compile, as one graph and for the shapes that come. Make all of a line before any runs.

    The compiler counts what it has compiled of one forward, whichever module it belonged to, and after eight gives up
    and runs the module as it is. Hence what earlier lines of a table compiled is dropped here; and one graph, since
    then giving up is an error.
    """
    torch.compiler.reset()
    return torch.compile(module, dynamic=False, fullgraph=True, **options)
