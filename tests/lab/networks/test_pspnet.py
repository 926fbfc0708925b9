"""PSPNet against its equations and the published parameter count."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aconite.errors import SettingsError
from aconite.lab.networks import pspnet
from aconite.nn import AconC, MetaAconC


def small(model="shufflenetv2_x0_5", activation="acon-c", classes=5, width=16, **options):
    return pspnet(model, activation=activation, classes=classes, width=width, **options)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv2_x0_25", "timm/resnet18", "torchvision/mobilenet_v3_small"])
def test_scores_of_every_pixel(model):
    network = small(model, tell=[].append)
    images = torch.randn(2, 3, 49, 70)
    scores, auxiliary = network(images)
    assert scores.shape == auxiliary.shape == (2, 5, 49, 70)
    (scores.square().mean() + 0.4 * auxiliary.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval()(images).shape == (2, 5, 49, 70)
    assert network.body.strides == (8, 8)


def test_without_auxiliary_head():
    network = small(auxiliary=False)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 5, 64, 64)
    assert not [key for key in network.state_dict() if key.startswith("auxiliary")]


def test_the_head_follows_the_equations():
    """Zhao et al.'s head, restated on the state dict."""
    torch.manual_seed(0)
    network = small("shufflenetv2_x0_5", "silu", bins=(1, 2, 3), everywhere=True).double().eval()
    for key, value in network.state_dict().items():
        if key.startswith(("head", "auxiliary")) and value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.5 + 0.25)
    w = network.state_dict()

    def norm(x, at):
        mean, var, scale, shift = (
            w[f"{at}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def silu(x):
        return x / (1 + torch.exp(-x))

    def pooled(x, bins):
        rows = [(i * x.shape[2] // bins, -(-(i + 1) * x.shape[2] // bins)) for i in range(bins)]
        columns = [(i * x.shape[3] // bins, -(-(i + 1) * x.shape[3] // bins)) for i in range(bins)]
        return torch.stack([torch.stack([x[:, :, a:b, c:d].mean((2, 3)) for c, d in columns], -1) for a, b in rows], -2)

    def enlarged(x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    def classified(x, at):
        y = silu(norm(F.conv2d(x, w[f"{at}.conv.weight"], padding=1), f"{at}.norm"))
        return F.conv2d(y, w[f"{at}.score.weight"], w[f"{at}.score.bias"])

    images = torch.randn(1, 3, 57, 81, dtype=torch.float64)
    before, last = network.body(images)
    maps = [last]
    for number, bins in enumerate((1, 2, 3)):
        y = F.conv2d(pooled(last, bins), w[f"head.pools.{number}.conv.weight"])
        assert y.shape[1] == 192 // 3
        maps.append(enlarged(silu(norm(y, f"head.pools.{number}.norm")), last.shape[-2:]))
    expected = enlarged(classified(torch.cat(maps, 1), "head"), (57, 81))
    torch.testing.assert_close(network(images), expected)
    network.train()
    network.freeze_norms()
    network.head.dropout.eval()
    network.auxiliary.dropout.eval()
    scores, auxiliary = network(images)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(auxiliary, enlarged(classified(before, "auxiliary"), (57, 81)))


@pytest.mark.slow
def test_parameters_are_the_published_codes():
    """Counted from the layers of the author's public code, with ResNet-50 and 19 classes."""

    def conv(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + 2 * outputs  # and a norm

    def stages(stem_width):
        total, channels = 0, stem_width
        for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for block in range(depth):
                total += conv(channels, width, 1) + conv(width, width, 3) + conv(width, 4 * width, 1)
                total += 0 if block else conv(channels, 4 * width, 1)
                channels = 4 * width
        return total

    heads = 4 * conv(2048, 512, 1) + conv(4096, 512, 3) + 512 * 19 + 19 + conv(1024, 256, 3) + 256 * 19 + 19
    published = conv(3, 64, 3) + conv(64, 64, 3) + conv(64, 128, 3) + stages(128) + heads
    assert published == 49_080_038
    ours = pspnet("resnet50", activation="relu", classes=19)
    assert count(ours.head) + count(ours.auxiliary) == heads
    biases = 26_560
    assert count(ours) == conv(3, 64, 7) + stages(64) + biases + heads == 48_982_822
    assert count(pspnet("torchvision/resnet50", activation=None, classes=19)) == 48_982_822 - biases


def test_a_batch_of_one_image_trains():
    """The norm behind the 1×1 average takes its running statistics; with two images it learns from them."""
    network = small(bins=(1, 2))
    means = [network.head.pools[number].norm.running_mean for number in range(2)]
    network(torch.randn(1, 3, 64, 64))[0].sum().backward()
    assert [bool(mean.any()) for mean in means] == [False, True]
    network(torch.randn(2, 3, 64, 64))
    assert means[0].any()


def test_the_activation_in_the_heads():
    inside, everywhere = small(), small(everywhere=True)
    assert not [p for p, m in inside.named_modules() if isinstance(m, AconC) and not p.startswith("body")]
    layers = [path for path, m in everywhere.named_modules() if isinstance(m, AconC) and not path.startswith("body")]
    assert layers == [*(f"head.pools.{number}.act" for number in range(4)), "head.act", "auxiliary.act"]
    told = []
    meta = small(activation="meta-acon", everywhere=True, tell=told.append)
    layers = [path for path, m in meta.named_modules() if isinstance(m, MetaAconC) and not path.startswith("body")]
    assert layers == [*(f"head.pools.{number}.act" for number in range(1, 4)), "head.act", "auxiliary.act"]
    assert len(told) == 1
    assert "nothing to pool" in told[0]


def test_one_seed_is_one_network():
    states = []
    for activation in ("relu", "acon-c", "meta-acon"):
        torch.manual_seed(0)
        states.append(small(activation=activation, everywhere=True, tell=[].append).state_dict())
    stock, *others = states
    assert all(torch.equal(state[key], value) for key, value in stock.items() for state in others)


def test_frozen_norms():
    network = small(freeze_norms=True).train()
    before = {key: value.clone() for key, value in network.state_dict().items() if "running" in key}
    network(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training or norm.weight.requires_grad or norm.bias.requires_grad for norm in norms)


def test_mistakes_are_told():
    with pytest.raises(SettingsError, match="cannot be kept at stride 8"):
        small("tfnet_0_5", "acon-frelu")
    with pytest.raises(SettingsError, match=r"bins=\(\)"):
        small(bins=())
    with pytest.raises(SettingsError, match="name one"):
        small("timm/resnet18", None, everywhere=True)
