"""ResNet (He et al. 2016) as the paper's reference code has it: every convolution with a bias.

In basic blocks (18 layers) both activations are the chosen one. In bottlenecks (50, 101 and 152 layers) only the
one after the 3×3 convolution is; the others, and the stem's in all sizes, stay ReLU.
"""

from __future__ import annotations

import functools

from torch import Tensor, nn

from aconite.models.initialisation import kaiming
from aconite.models.layers import Factory, conv_norm, relu
from aconite.models.registry import register
from aconite.models.stems import Stem, reductions

__all__ = ["ResNet"]


class Residual(nn.Module):
    """act(main(x) + shortcut(x)): (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""

    def __init__(self, main: nn.Sequential, act: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main, self.act = main, act
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride=stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.main(x) + self.shortcut(x))  # type: ignore[no-any-return]


def basic(inputs: int, width: int, stride: int, activation: Factory, squeeze: Factory | None) -> Residual:
    """Two 3×3 convolutions, the activation after each."""
    main = nn.Sequential(
        conv_norm(inputs, width, 3, stride=stride, bias=True, activation=activation),
        conv_norm(width, width, 3, bias=True, squeeze=squeeze),
    )
    return Residual(main, activation(width), inputs, width, stride)


def bottleneck(inputs: int, width: int, stride: int, activation: Factory, squeeze: Factory | None) -> Residual:
    """1×1, 3×3 and 1×1 convolutions; the stride is the first one's, the activation the 3×3's."""
    main = nn.Sequential(
        conv_norm(inputs, width, 1, stride=stride, bias=True, activation=relu),
        conv_norm(width, width, 3, bias=True, activation=activation),
        conv_norm(width, 4 * width, 1, bias=True, squeeze=squeeze),
    )
    return Residual(main, relu(4 * width), inputs, 4 * width, stride)


class ResNet(nn.Module):
    """Stem, four stages, global mean, linear classifier.

    The stem's convolution is 7×7 at stride 2 before the pool, and 3×3 where the stem keeps the resolution.
    """

    def __init__(
        self,
        activation: Factory,
        *,
        depths: tuple[int, int, int, int],
        bottlenecks: bool,
        squeeze: Factory | None,
        num_classes: int,
        in_channels: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        block, expansion = (bottleneck, 4) if bottlenecks else (basic, 1)
        widths, strides = (64, 128, 256, 512), (1, stem.stage_stride, 2, 2)
        self.channels = tuple(expansion * width for width in widths)
        self.strides = reductions(stem.conv_stride * stem.pool_stride, *strides)[1:]
        channels, kernel = 64, 7 if stem.conv_stride > 1 else 3
        self.stem = conv_norm(in_channels, channels, kernel, stride=stem.conv_stride, bias=True, activation=relu)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem.pool else nn.Identity()
        self.stages = nn.Sequential()
        for width, depth, stride in zip(widths, depths, strides, strict=True):
            stage = nn.Sequential()
            for position in range(depth):
                stage.append(block(channels, width, 1 if position else stride, activation, squeeze))
                channels = expansion * width
            self.stages.append(stage)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stages(self.pool(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


for _layers, _depths in ((18, (2, 2, 2, 2)), (50, (3, 4, 6, 3)), (101, (3, 4, 23, 3)), (152, (3, 8, 36, 3))):
    register(f"resnet{_layers}", rule=kaiming)(functools.partial(ResNet, depths=_depths, bottlenecks=_layers > 18))
