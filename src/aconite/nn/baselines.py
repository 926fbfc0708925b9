"""The learnt rivals that torch does not have in this form: Maxout, and PReLU with the channels anywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aconite import functional
from aconite.nn.channels import ChannelModule, given_channels
from aconite.nn.initial import Init, initial_values

__all__ = ["Maxout", "PReLU"]


class Maxout(ChannelModule):
    r"""max(p1·x, p2·x) with learnt slopes: the Maxout member that ACON-C smooths, as its rival (paper, table 1).

    .. math:: f(x) = \max(p_1 x, p_2 x)

    Arguments and shapes as in `AconC`.

    >>> Maxout(2, init="swish")(torch.tensor([[-1.0, 2.0]]))
    tensor([[-0., 2.]], grad_fn=<MaximumBackward0>)
    """

    channel_entry = ("p1", 0)
    p1: nn.Parameter
    p2: nn.Parameter

    def __init__(
        self,
        channels: int | None = None,
        *,
        init: Init = "paper",
        channel_dim: int = 1,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.init, self.channel_dim = init, channel_dim
        self._start(given_channels(channels, None, init), device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        values = initial_values(self.init, channels, factory["device"])
        self.p1, self.p2 = (nn.Parameter(values[name].to(**factory)) for name in ("p1", "p2"))

    def forward(self, x: Tensor) -> Tensor:
        """max(p1·x, p2·x), in x's shape and dtype."""
        self._ready(x)
        return functional.maxout(x, self.p1, self.p2, channel_dim=self.channel_dim)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class PReLU(ChannelModule):
    r"""PReLU with one slope per channel, 0.25 at the start (He et al., ICCV 2015): torch's for any ``channel_dim``.

    .. math:: f(x) = \max(x, 0) + p \min(x, 0)

    Its state dict is torch's (``weight``).

    >>> PReLU(3, channel_dim=-1)(-torch.ones(2, 5, 3))[0, 0]
    tensor([-0.2500, -0.2500, -0.2500], grad_fn=<SelectBackward0>)
    """

    channel_entry = ("weight", 0)
    weight: nn.Parameter

    def __init__(
        self,
        channels: int | None = None,
        *,
        channel_dim: int = 1,
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.channel_dim = channel_dim
        self._start(channels, device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        self.weight = nn.Parameter(torch.full((channels,), 0.25, **factory))

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0) + p·min(x, 0), in x's shape and dtype."""
        c = self._ready(x)
        dtype = torch.promote_types(torch.promote_types(x.dtype, self.weight.dtype), torch.float32)
        wide, weight = x.to(dtype), self.weight.to(dtype)
        if c == 0:  # torch takes the channels at dimension 1
            return nn.functional.prelu(wide.unsqueeze(0), weight).squeeze(0).to(x.dtype)
        return nn.functional.prelu(wide.movedim(c, 1), weight).movedim(1, c).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}"
