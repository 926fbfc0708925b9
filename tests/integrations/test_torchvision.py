"""torchvision's ``activation_layer=``, which needs nothing from us but constructors that accept what it passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aconite import AconC, MetaAconC

torchvision = pytest.importorskip("torchvision")


class Seen:
    def __init__(self, kind: type[nn.Module]) -> None:
        self.kind, self.layers, self.inplace = kind, list[Any](), set[object]()

    def __call__(self, *args: Any, **options: Any) -> nn.Module:
        layer = self.kind(*args, **options)
        self.inplace.add(options.get("inplace"))
        self.layers.append(layer)
        return layer


@pytest.mark.parametrize("kind", [AconC, MetaAconC])
def test_conv_norm_activation(kind: type[nn.Module]) -> None:
    block = torchvision.ops.Conv2dNormActivation(3, 12, activation_layer=kind, inplace=True)
    block(torch.randn(2, 3, 9, 9)).sum().backward()
    assert block[2].p1.shape == (12,)
    assert block[2].p1.grad is not None


def _inverted(kind: Callable[..., nn.Module]) -> nn.Module:
    config = torchvision.models.mobilenetv3.InvertedResidualConfig(16, 3, 40, 24, True, "HS", 1, 1, 1.0)
    block = torchvision.models.mobilenetv3.InvertedResidual(config, nn.BatchNorm2d)
    block.block[0][2] = kind(inplace=True)
    return nn.Sequential(nn.Conv2d(3, 16, 1), block)


def _mbconv(kind: Callable[..., nn.Module]) -> nn.Module:
    def se(channels: int, squeeze: int, **_: Any) -> nn.Module:
        return torchvision.ops.SqueezeExcitation(channels, squeeze, activation=kind)

    config = torchvision.models.efficientnet.MBConvConfig(4, 3, 1, 16, 24, 1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), torchvision.models.efficientnet.MBConv(config, 0.0, nn.BatchNorm2d, se_layer=se)
    )


@pytest.mark.parametrize("kind", [AconC, MetaAconC])
@pytest.mark.parametrize("build", [_inverted, _mbconv])
def test_blocks_of_mobilenetv3_and_efficientnet(build: Callable[..., nn.Module], kind: type[nn.Module]) -> None:
    seen = Seen(kind)
    block = build(seen)
    widths = []
    for layer in seen.layers:
        layer.register_forward_pre_hook(lambda _, x: widths.append(x[0].shape[1]))
    block(torch.randn(2, 3, 8, 8)).sum().backward()
    assert widths
    assert [layer.p1.numel() for layer in seen.layers] == widths


@pytest.mark.parametrize("kind", [AconC, MetaAconC])
def test_mlp_with_channels_last(kind: type[nn.Module]) -> None:
    seen = Seen(kind)
    mlp = torchvision.ops.MLP(
        8, [20, 4], activation_layer=lambda **options: seen(channel_dim=-1, **options), inplace=True
    )
    mlp(torch.randn(2, 5, 8)).sum().backward()
    assert seen.inplace == {True}
    assert [layer.p1.numel() for layer in seen.layers] == [20]
