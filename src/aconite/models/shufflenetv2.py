"""ShuffleNetV2 (Ma et al. 2018) as the paper's reference code has it: every convolution with a bias."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from aconite.models.initialisation import scaled_normal
from aconite.models.layers import Factory, conv_norm
from aconite.models.registry import register
from aconite.models.stems import Stem, reductions

__all__ = ["ShuffleNetV2"]


class Unit(nn.Module):
    """Pass the even channels by and send the odd ones through ``main``: (N, C, H, W) to the same shape.

    Taking every second channel is the channel shuffle: it mixes the halves that the previous block
    concatenated.
    """

    def __init__(self, channels: int, activation: Factory, squeeze: Factory | None) -> None:
        super().__init__()
        half = channels // 2
        self.main = _bottleneck(half, half, half, 1, activation, squeeze)

    def forward(self, x: Tensor) -> Tensor:
        # Its backward is one stack; two slices x[:, ::2] cost 10 % of a 224-pixel training step in NCHW.
        passed, worked = torch.unflatten(x, 1, (-1, 2)).unbind(2)
        return torch.cat((passed, self.main(worked)), 1)


class Transition(nn.Module):
    """Both branches see all channels: (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Factory, squeeze: Factory | None) -> None:
        super().__init__()
        self.main = _bottleneck(inputs, outputs // 2, outputs - inputs, stride, activation, squeeze)
        self.shortcut = nn.Sequential(
            conv_norm(inputs, inputs, 3, stride=stride, groups=inputs, bias=True),
            conv_norm(inputs, inputs, 1, bias=True, activation=activation),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.shortcut(x), self.main(x)), 1)


class ShuffleNetV2(nn.Module):
    """Stem, three stages of 4, 8 and 4 blocks, a 1×1 head, global mean, linear classifier."""

    def __init__(
        self,
        activation: Factory,
        *,
        widths: tuple[int, int, int],
        head_width: int,
        dropout: float,
        squeeze: Factory | None,
        num_classes: int,
        in_channels: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        width = 24
        self.channels, strides = widths, (stem.stage_stride, 2, 2)
        self.strides = reductions(stem.conv_stride * stem.pool_stride, *strides)[1:]
        self.stem = conv_norm(in_channels, width, 3, stride=stem.conv_stride, bias=True, activation=activation)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem.pool else nn.Identity()
        self.stages = nn.Sequential()
        for stride, blocks, outputs in zip(strides, (4, 8, 4), widths, strict=True):
            first = Transition(width, outputs, stride, activation, squeeze)
            rest = (Unit(outputs, activation, squeeze) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(first, *rest))
            width = outputs
        self.head = conv_norm(width, head_width, 1, bias=True, activation=activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.stages(self.pool(self.stem(x))))
        return self.classifier(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


def _bottleneck(
    inputs: int, middle: int, outputs: int, stride: int, activation: Factory, squeeze: Factory | None
) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(inputs, middle, 1, bias=True, activation=activation),
        conv_norm(middle, middle, 3, stride=stride, groups=middle, bias=True),
        conv_norm(middle, outputs, 1, bias=True, activation=activation, squeeze=squeeze),
    )


for _size, _widths, _head_width, _dropout, _r in (
    ("x0_5", (48, 96, 192), 1024, 0.0, 8),
    ("x1_0", (116, 232, 464), 1024, 0.0, 16),
    ("x1_5", (176, 352, 704), 1024, 0.0, 16),
    ("x2_0", (244, 488, 976), 2048, 0.2, 16),
):
    register(f"shufflenetv2_{_size}", rule=scaled_normal, options={"meta-acon": {"r": _r}})(
        functools.partial(ShuffleNetV2, widths=_widths, head_width=_head_width, dropout=_dropout)
    )
