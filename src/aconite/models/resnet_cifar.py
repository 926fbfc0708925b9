"""The small ResNets of He et al. 2016 §4.2: 6n + 2 layers, in stages of 16, 32 and 64 channels."""

from __future__ import annotations

import functools

import torch.nn.functional as F
from torch import Tensor, nn

from aconite.models.initialisation import kaiming
from aconite.models.layers import Factory, conv_norm
from aconite.models.registry import register
from aconite.models.stems import Stem, reductions

__all__ = ["ResNetCifar"]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters: (N, inputs, H, W) to (N, outputs, H/s, W/s).

    Where the shape changes, the shortcut takes every second pixel and fills the new channels with zeros (the
    paper's option A), so that the parameter counts are the published ones.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Factory, squeeze: Factory | None) -> None:
        super().__init__()
        self.conv1 = conv_norm(inputs, outputs, 3, stride=stride, bias=False, activation=activation)
        self.conv2 = conv_norm(outputs, outputs, 3, bias=False, squeeze=squeeze)
        self.act = activation(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return self.act(x + y)  # type: ignore[no-any-return]


class ResNetCifar(nn.Module):
    """Stem, three stages of ``blocks`` basic blocks, global mean, linear classifier.

    The first stage keeps the resolution: images of 8 pixels end at 2×2 under the "small" stem already, and
    "tiny" is the same network.
    """

    def __init__(
        self,
        activation: Factory,
        *,
        blocks: int,
        squeeze: Factory | None,
        num_classes: int,
        in_channels: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        width = 16
        self.channels, strides = (16, 32, 64), (1, 2, 2)
        self.strides = reductions(stem.conv_stride * stem.pool_stride, *strides)[1:]
        self.stem = conv_norm(in_channels, width, 3, stride=stem.conv_stride, bias=False, activation=activation)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem.pool else nn.Identity()
        self.stages = nn.Sequential()
        for stride, outputs in zip(strides, self.channels, strict=True):
            first = BasicBlock(width, outputs, stride, activation, squeeze)
            rest = (BasicBlock(outputs, outputs, 1, activation, squeeze) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(first, *rest))
            width = outputs
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stages(self.pool(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


for _blocks in (1, 2, 3, 5, 7, 9):
    register(f"resnet{6 * _blocks + 2}", rule=kaiming)(functools.partial(ResNetCifar, blocks=_blocks))
