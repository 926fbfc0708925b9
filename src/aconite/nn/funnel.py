"""The funnel activations, which compare a pixel with its neighbourhood: FReLU and its smooth form ACON-FReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from aconite import functional, reference
from aconite.errors import SettingsError, ShapeError
from aconite.nn.channels import ChannelModule

__all__ = ["AconFReLU", "FReLU"]


class _Funnel(ChannelModule):
    """The depthwise 3×3 convolution, its norm, and the check for (N, C, H, W)."""

    channel_dim = 1
    channel_entry = ("conv_frelu.weight", 0)
    conv_frelu: nn.Conv2d

    def _convolution(self, channels: int, stride: int, factory: dict[str, Any]) -> nn.Conv2d:
        conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, **factory)
        nn.init.normal_(conv.weight, 0.0, 0.01)  # as the reference code
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        return conv

    def _ready(self, x: Tensor) -> int:
        if x.ndim != 4:
            raise ShapeError(
                f"{type(self).__name__} looks at neighbouring pixels and takes (N, C, H, W), not shape {tuple(x.shape)}"
            )
        return super()._ready(x)


class FReLU(_Funnel):
    r"""Funnel ReLU (Ma, Zhang, Sun, ECCV 2020; paper, table 1).

    .. math:: f(x) = \max(x, \operatorname{BN}(\operatorname{DW}_{3 \times 3}(x)))

    Args:
        channels: C, or None to learn it from the first input.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters.

    Shape:
        (N, C, H, W) to the same.

    >>> FReLU(8)(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(
        self, channels: int | None = None, *, inplace: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self._start(channels, device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        self.conv_frelu = self._convolution(channels, 1, factory)
        self.bn_frelu = nn.BatchNorm2d(channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """max(x, BN(DW(x)))."""
        self._ready(x)
        return torch.maximum(x, self.bn_frelu(self.conv_frelu(x)))

    def extra_repr(self) -> str:
        return f"{self.channels}"


class AconFReLU(_Funnel):
    r"""ACON-FReLU, the smooth FReLU of TFNet (paper, section 3 and table 1; reference code).

    .. math:: f(x) = \operatorname{BN}_2(S_\beta(\eta_a(x), \operatorname{BN}_1(\operatorname{DW}_{3 \times 3}(x))))

    η_a(x) = x at stride 1 and max-pool 3×3 of stride 2 at stride 2, where the convolution has stride 2 as well.

    Args:
        channels: C, or None to learn it from the first input.
        stride: 1 or 2.
        learn_beta: β is a Parameter, (C,), starting at 1; otherwise it is the constant 1, as in the reference code.
        gate: ``"sigmoid"``, or ``"hard"`` for relu6(z + 3)/6.
        inplace: accepted, since generic code passes it, and ignored.
        device: of the parameters.
        dtype: of the parameters.

    Shape:
        (N, C, H, W) to (N, C, ⌈H/stride⌉, ⌈W/stride⌉).

    >>> AconFReLU(8, stride=2)(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 8, 3, 3])
    """

    beta: nn.Parameter | float

    def __init__(
        self,
        channels: int | None = None,
        stride: int = 1,
        *,
        learn_beta: bool = False,
        gate: str = "sigmoid",
        inplace: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise SettingsError(f"AconFReLU(stride={stride!r}): expected 1 or 2")
        reference.gate_function(gate)
        self.stride, self.learn_beta, self.gate = stride, learn_beta, gate
        self._start(channels, device, dtype)

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        self.conv_frelu = self._convolution(channels, self.stride, factory)
        self.bn1 = nn.BatchNorm2d(channels, **factory)
        self.bn2 = nn.BatchNorm2d(channels, **factory)
        self.beta = nn.Parameter(torch.ones(channels, **factory)) if self.learn_beta else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """BN2(S_β(η_a(x), BN1(DW(x))))."""
        self._ready(x)
        near = self.bn1(self.conv_frelu(x))
        own = torch.nn.functional.max_pool2d(x, 3, 2, 1) if self.stride == 2 else x
        y: Tensor = self.bn2(functional.acon(own, near, self.beta, gate=self.gate))
        return y

    def extra_repr(self) -> str:
        return f"{self.channels}, stride={self.stride}"
