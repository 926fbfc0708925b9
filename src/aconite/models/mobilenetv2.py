"""MobileNetV2 (Sandler et al. 2018), the paper's baseline for TFNet.

Channels are the published ones times the width, rounded to the nearest multiple of 8, at least 8 and at most a tenth
below; the head has 1280·max(1, width). This is the authors' rule and torchvision's, whose parameter counts these
are with 1000 classes. The paper's table prints other figures (multiply-adds at 224 pixels; parameters):

=====  ================  ==================
width  here              printed
=====  ================  ==================
0.17   32.0 M; 1.45 M    42 M; 1.4 M
0.25   37.2 M; 1.52 M
0.6    151.0 M; 2.22 M   141 M; 2.2 M
1.0    300.8 M; 3.50 M   300 M; 3.4 M
1.4    582.2 M; 6.11 M   585 M; 5.5 M
=====  ================  ==================

No rule tried gives them all: nine ways of rounding, heads of 1024, 1280 or 1280·max(1, width), with and without
scaling the stem, the first and the last stage. Rounding down to a multiple of 8 behind a stem of 32 gives the first
row alone.
"""

from __future__ import annotations

import functools

from torch import Tensor, nn

from aconite.models.initialisation import scaled_normal
from aconite.models.layers import Factory, conv_norm
from aconite.models.registry import register
from aconite.models.stems import Stem, reductions

__all__ = ["MobileNetV2"]


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; with a shortcut where the shape stays: (N, C, H, W) to (N, C', H/s, W/s)."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, activation: Factory, squeeze: Factory | None
    ) -> None:
        super().__init__()
        middle = expansion * inputs
        self.main = nn.Sequential()
        if expansion > 1:
            self.main.append(conv_norm(inputs, middle, 1, bias=False, activation=activation))
        self.main.append(conv_norm(middle, middle, 3, stride=stride, groups=middle, bias=False, activation=activation))
        self.main.append(conv_norm(middle, outputs, 1, bias=False, squeeze=squeeze))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return x + y if self.adds else y


# The published groups of blocks, (expansion, channels, blocks), those of one resolution together.
_STAGES = (
    ((1, 16, 1),),
    ((6, 24, 2),),
    ((6, 32, 3),),
    ((6, 64, 4), (6, 96, 3)),
    ((6, 160, 3), (6, 320, 1)),
)


class MobileNetV2(nn.Module):
    """Stem, five stages of inverted residuals, a 1×1 head, global mean, dropout, linear classifier.

    Every ReLU6 of the publication is a site of the activation. The second stage's stride stands where other networks
    pool.
    """

    def __init__(
        self,
        activation: Factory,
        *,
        width: float,
        squeeze: Factory | None,
        num_classes: int,
        in_channels: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        strides = (1, stem.pool_stride, stem.stage_stride, 2, 2)
        self.channels = tuple(_rounded(width * groups[-1][1]) for groups in _STAGES)
        self.strides = reductions(stem.conv_stride, *strides)[1:]
        channels = _rounded(width * 32)
        self.stem = conv_norm(in_channels, channels, 3, stride=stem.conv_stride, bias=False, activation=activation)
        self.stages = nn.Sequential()
        for stride, groups in zip(strides, _STAGES, strict=True):
            stage = nn.Sequential()
            for expansion, outputs, blocks in groups:
                for _ in range(blocks):
                    step = 1 if len(stage) else stride
                    stage.append(
                        InvertedResidual(channels, _rounded(width * outputs), expansion, step, activation, squeeze)
                    )
                    channels = _rounded(width * outputs)
            self.stages.append(stage)
        head_width = _rounded(max(1.0, width) * 1280)
        self.head = conv_norm(channels, head_width, 1, bias=False, activation=activation)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(head_width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.stages(self.stem(x)))
        return self.classifier(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


def _rounded(channels: float) -> int:
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


for _width in (0.17, 0.25, 0.6, 1.0, 1.4):
    register(f"mobilenetv2_x{_width}".replace(".", "_"), rule=scaled_normal)(
        functools.partial(MobileNetV2, width=_width)
    )
