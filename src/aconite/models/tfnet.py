"""TFNet (the paper's section 3): pointwise convolutions and the activation, nothing else.

The paper's networks are those with ``activation="acon-frelu"``, whose funnels are the only look at neighbouring
pixels. Any other activation stands in a funnel's place alone, without the funnel's convolution and norms.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from aconite.models.initialisation import scaled_normal
from aconite.models.layers import Factory, conv_norm, relu
from aconite.models.registry import register
from aconite.models.stems import Stem, reductions
from aconite.nn import AconFReLU

__all__ = ["TFNet"]


class Block(nn.Module):
    """Two pointwise convolutions beside a shortcut without parameters: (N, C, H, W) to (N, C', H/s, W/s).

    A block that ``doubles`` concatenates the two, C' = 2C, before its last activation strides; another one adds them.
    """

    def __init__(
        self, channels: int, activation: Factory, squeeze: Factory | None, *, doubles: bool, stride: int
    ) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv_norm(channels, channels, 1, bias=True, activation=activation),
            conv_norm(channels, channels, 1, bias=True, squeeze=squeeze),
        )
        self.doubles = doubles
        self.act = activation(2 * channels if doubles else channels)
        self.pool: nn.Module = nn.Identity()
        if stride == 2:
            if isinstance(self.act, AconFReLU):
                self.act.stride, self.act.conv_frelu.stride = 2, (2, 2)
            else:
                self.pool = nn.MaxPool2d(3, 2, 1)  # what a striding funnel does to its own pixel

    def forward(self, x: Tensor) -> Tensor:
        y = self.main(x)
        y = torch.cat((x, y), 1) if self.doubles else x + y
        return self.act(self.pool(y))  # type: ignore[no-any-return]


class TFNet(nn.Module):
    """Stem, four stages of 2, 3, 8 and 3 blocks, a 1×1 head, global mean, linear classifier.

    The stem's activation is ReLU. Each stage doubles the channels; the first one's stride stands where other networks
    pool.
    """

    def __init__(
        self,
        activation: Factory,
        *,
        width: int,
        dropout: float,
        squeeze: Factory | None,
        num_classes: int,
        in_channels: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        strides = (stem.pool_stride, stem.stage_stride, 2, 2)
        self.channels = (2 * width, 4 * width, 8 * width, 16 * width)
        self.strides = reductions(stem.conv_stride, *strides)[1:]
        self.stem = conv_norm(in_channels, width, 3, stride=stem.conv_stride, bias=True, activation=relu)
        self.stages = nn.Sequential()
        for stride, blocks, outputs in zip(strides, (2, 3, 8, 3), self.channels, strict=True):
            first = Block(width, activation, squeeze, doubles=True, stride=stride)
            rest = (Block(outputs, activation, squeeze, doubles=False, stride=1) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(first, *rest))
            width = outputs
        self.head = conv_norm(width, 1024, 1, bias=True, activation=activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.stages(self.stem(x)))
        return self.classifier(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


for _size, _width, _dropout in (("0_5", 8, 0.0), ("1_0", 16, 0.2), ("1_5", 24, 0.2), ("2_0", 32, 0.2)):
    register(f"tfnet_{_size}", rule=scaled_normal)(functools.partial(TFNet, width=_width, dropout=_dropout))
