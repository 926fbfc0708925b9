"""Classification networks: sources, activations, and one seed for all of them."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from aconite.errors import MissingExtraError, SettingsError, UnknownNameError
from aconite.lab.networks import classifier
from aconite.models import create
from aconite.nn import AconC, MetaAconC

FOREIGN = ["timm/resnet18", "torchvision/resnet18"]


def kinds(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [path for path, module in network.named_modules() if isinstance(module, kind)]


def test_ours_is_what_create_makes():
    torch.manual_seed(3)
    network = classifier("resnet8", activation="acon-c", classes=5, channels=1, image_size=16, se=True)
    torch.manual_seed(3)
    expected = create("resnet8", activation="acon-c", num_classes=5, in_channels=1, stem="tiny", se=True)
    got = network.state_dict()
    assert got.keys() == expected.state_dict().keys()
    assert all(torch.equal(got[key], value) for key, value in expected.state_dict().items())


@pytest.mark.parametrize("model", [*FOREIGN, "timm/mobilenetv3_small_050", "torchvision/mobilenet_v3_small"])
def test_foreign_networks_get_the_activation(model):
    network = classifier(model, activation="acon-c", classes=7, image_size=64)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 7)
    layers = kinds(network, AconC)
    assert layers
    if "resnet18" in model:
        assert len(layers) == 17  # the stem's and two in each of eight blocks
        assert not kinds(network, nn.ReLU)
    else:
        assert not [path for path in layers if ".se." in path or "classifier" in path]


@pytest.mark.parametrize("model", ["torchvision/resnet50", pytest.param("timm/resnet50", marks=pytest.mark.slow)])
def test_bottlenecks_get_it_after_the_3x3_convolution_only(model):
    network = classifier(model, activation="acon-c", classes=2, image_size=32)
    widths = [module.p1.numel() for module in network.modules() if isinstance(module, AconC)]
    assert widths == [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3


@pytest.mark.parametrize("model", ["timm/test_resnet", "torchvision/shufflenet_v2_x0_5"])
def test_one_seed_is_one_network(model):
    states = {}
    for activation in (None, "relu", "silu", "acon-c", "meta-acon", "x * sigmoid(beta * x)"):
        torch.manual_seed(0)
        network = classifier(model, activation=activation, classes=3, image_size=32)
        states[activation] = network.state_dict()
        states[activation]["drawn afterwards"] = torch.rand(4)
    stock = states[None]
    for state in states.values():
        assert all(torch.equal(state[key], value) for key, value in stock.items())
    assert len(states["acon-c"]) > len(stock)
    assert len(states["relu"]) == len(stock)


def test_a_fixed_activation_may_be_the_networks_own():
    network = classifier("torchvision/efficientnet_b0", activation="silu", classes=2, image_size=32)
    assert kinds(network, nn.SiLU)


@pytest.mark.parametrize(
    ("model", "activation", "sites"),
    [("resnet18", "acon-c", 16), ("shufflenetv2_x0_5", "meta-acon", 37), ("timm/resnet18", "meta-acon", 17)],
)
def test_match_imitates_the_networks_own(model, activation, sites):
    network = classifier(model, activation=activation, classes=4, image_size=64, init="match").eval()
    layers = [module for module in network.modules() if isinstance(module, AconC | MetaAconC)]
    assert len(layers) == sites
    for layer in layers:
        x = torch.linspace(-3, 3, 50)[:, None, None, None].expand(50, layer.p1.numel(), 2, 2)
        torch.testing.assert_close(layer(x), x.relu(), rtol=0, atol=0.0101)
    if activation == "meta-acon":
        assert {layer.r for layer in layers} == {8 if "x0_5" in model else 16}  # the reference code's for this width


def test_other_channels():
    assert classifier("timm/resnet18", activation="relu", classes=2, channels=1, image_size=32)(
        torch.randn(2, 1, 32, 32)
    ).shape == (2, 2)
    with pytest.raises(SettingsError, match="3 channels, not 1"):
        classifier("torchvision/resnet18", activation="relu", classes=2, channels=1)


def test_images_of_a_size_for_transformers():
    network = classifier("timm/vit_tiny_patch16_224", activation="acon-c", classes=2, image_size=64)
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 2)


def test_what_stays_is_told():
    told = []
    classifier("timm/vit_tiny_patch16_224", activation="acon-c", classes=2, image_size=64, tell=told.append)
    assert told == []
    with pytest.raises(SettingsError, match="average over a sequence"):
        classifier("timm/vit_tiny_patch16_224", activation="meta-acon", classes=2, image_size=64, tell=told.append)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "resnet19"}, UnknownNameError, "did you mean"),
        ({"model": "timm/resnet19"}, SettingsError, "timm has no model 'resnet19': did you mean resnet18"),
        ({"model": "torchvision/resnet19"}, UnknownNameError, "did you mean 'resnet1"),
        ({"model": "keras/resnet50"}, SettingsError, "timm/NAME or torchvision/NAME"),
        ({"activation": "acon-d"}, UnknownNameError, "did you mean 'acon-"),
        ({"init": "zero"}, SettingsError, "'match'"),
        ({"weights_stage": "while"}, SettingsError, "'before' or 'after'"),
        ({"model": "timm/resnet18", "se": True}, SettingsError, "se is for our own networks"),
    ],
)
def test_mistakes_are_told(options, error, words):
    with pytest.raises(error, match=words):
        classifier(**({"model": "resnet8", "activation": "relu", "classes": 2} | options))


@pytest.mark.parametrize(("model", "package"), [("timm/resnet18", "timm"), ("torchvision/resnet18", "torchvision")])
def test_without_the_extra(monkeypatch, model, package):
    for name in list(sys.modules):
        if name == "aconite.integrations.timm" or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs {package}.*aconite\[vision\]"):
        classifier(model, activation="relu", classes=2)
