"""Squeeze-and-excitation: the origin of channel-wise Meta-ACON and its rival."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aconite.errors import SettingsError
from aconite.nn.channels import ChannelModule
from aconite.nn.pooling import hidden_width, pooled

__all__ = ["SqueezeExcite", "SqueezeExciteReLU"]


class SqueezeExcite(ChannelModule):
    r"""Squeeze-and-excitation (Hu, Shen, Sun, CVPR 2018; paper, section 4).

    .. math:: y = x \cdot \sigma\bigl(W_2 \operatorname{relu}(W_1 \operatorname{mean}_{hw} x + b_1) + b_2\bigr)

    Args:
        channels: C, or None to learn it from the first input.
        r: reduction; the hidden width is max(r, C // r), the same rule as `MetaAconC`'s, so that the two compare at
            equal width.
        hidden: the hidden width where another is wanted.
        channel_dim: where the channels are; with the channels in front (unbatched) the input is a batch of one.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters.

    Shape:
        (N, …, C, …); the output has the same shape and dtype.

    >>> SqueezeExcite(32)(torch.zeros(2, 32, 4, 4)).shape
    torch.Size([2, 32, 4, 4])
    """

    channel_entry = ("fc1.weight", 1)
    fc1: nn.Conv2d
    fc2: nn.Conv2d

    def __init__(
        self,
        channels: int | None = None,
        r: int = 16,
        *,
        hidden: int | None = None,
        channel_dim: int = 1,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if not all(isinstance(n, int) and n > 0 for n in (r, r if hidden is None else hidden)):
            raise SettingsError(f"SqueezeExcite(r={r!r}, hidden={hidden!r}): expected positive integers")
        self.r, self.hidden, self.channel_dim = r, hidden, channel_dim
        self._start(channels, device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        width = hidden_width(channels, self.r, self.hidden)
        self.fc1 = nn.Conv2d(channels, width, 1, **factory)
        self.fc2 = nn.Conv2d(width, channels, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """x scaled per sample and channel."""
        c = self._ready(x)
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(pooled(x, c, self.fc1.weight.dtype)))))
        shape = [x.shape[d] if d in (0, c) else 1 for d in range(x.ndim)]
        return (x * scale.reshape(shape)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, r={self.r}"


class SqueezeExciteReLU(SqueezeExcite):
    """SE(ReLU(x)), the activation "se-relu".

    >>> SqueezeExciteReLU(32)(-torch.ones(2, 32, 4, 4)).abs().max()
    tensor(0., grad_fn=<MaxBackward1>)
    """

    def forward(self, x: Tensor) -> Tensor:
        """SE(ReLU(x)), in x's shape and dtype."""
        return super().forward(torch.relu(x))
