"""PSPNet's heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aconite.errors import SettingsError
from aconite.lab.networks.activating import activate
from aconite.lab.networks.choice import Tell
from aconite.lab.networks.frozen import Freezable

__all__ = ["PSPNet"]


class PSPNet(Freezable):
    """See `aconite.lab.networks.pspnet`; ``body`` gives the maps before and after the last stage."""

    score_layers = ("head.score", "auxiliary.score")

    def __init__(
        self, body: nn.Module, classes: int, *, auxiliary: bool, bins: Sequence[int], width: int, dropout: float
    ) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise SettingsError(f"bins={tuple(bins)!r}: expected numbers of regions, such as (1, 2, 3, 6)")
        whole: Any = body
        before, last = whole.channels
        self.body = body
        self.head = _Head(last, width, classes, dropout, bins)
        self.auxiliary = _Head(before, width // 2, classes, dropout) if auxiliary else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        before, last = self.body(images)
        size = images.shape[-2:]
        scores = _resized(self.head(last), size)
        if self.auxiliary is None or not self.training:
            return scores
        return scores, _resized(self.auxiliary(before), size)

    def heads(self) -> tuple[_Head, ...]:
        """What comes after the body."""
        return (self.head,) if self.auxiliary is None else (self.head, self.auxiliary)

    def activate(self, activation: str, init: str, tell: Tell) -> None:
        """Put the activation where the heads' ReLUs are."""
        for head in self.heads():
            activate(head, activation, torch.zeros(2, head.inputs, 12, 12), init=init, tell=tell)


class _Head(nn.Module):
    """A map (N, C, H, W) to class scores (N, classes, H, W), with pyramid pooling before if there are bins."""

    def __init__(self, inputs: int, width: int, classes: int, dropout: float, bins: Sequence[int] = ()) -> None:
        super().__init__()
        self.inputs = inputs
        share = inputs // max(1, len(bins))
        self.pools = nn.ModuleList(_Pool(inputs, share, count) for count in bins)
        self.conv = nn.Conv2d(inputs + len(bins) * share, width, 3, padding=1, bias=False)
        self.norm, self.act, self.dropout = nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(dropout)
        self.score = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, *(_resized(pool(x), x.shape[-2:]) for pool in self.pools)], 1)
        return self.score(self.dropout(self.act(self.norm(self.conv(x)))))  # type: ignore[no-any-return]


class _Pool(nn.Sequential):
    """The means of bins × bins regions: (N, C, H, W) to (N, outputs, bins, bins)."""

    def __init__(self, inputs: int, outputs: int, bins: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(bins)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm, self.act = _NormOfOne(outputs), nn.ReLU()


class _NormOfOne(nn.BatchNorm2d):
    """BatchNorm that takes its running statistics where a batch has one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def _resized(x: Tensor, size: Any) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
