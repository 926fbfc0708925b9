"""Feature maps of every source, and dilation held against the undilated network."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from aconite.errors import SettingsError
from aconite.lab.networks import backbone, pspnet, retinanet
from aconite.models import Features, create
from aconite.nn import AconC

MODELS = {  # channels of the maps of strides 8, 16 and 32
    "resnet18": (128, 256, 512),
    "shufflenetv2_x0_5": (48, 96, 192),
    "mobilenetv2_x0_25": (8, 24, 80),
    "timm/resnet18": (128, 256, 512),
    "timm/mobilenetv3_small_050": (16, 24, 288),
    "torchvision/resnet18": (128, 256, 512),
    "torchvision/resnet50": (512, 1024, 2048),
    "torchvision/regnet_y_400mf": (104, 208, 440),
    "torchvision/shufflenet_v2_x0_5": (48, 96, 192),
    "torchvision/mobilenet_v2": (32, 96, 320),
    "torchvision/mobilenet_v3_small": (24, 48, 96),
    "torchvision/efficientnet_b0": (40, 112, 320),
    "torchvision/convnext_tiny": (192, 384, 768),
}


SLOW = (
    "torchvision/resnet50",
    "torchvision/regnet_y_400mf",
    "torchvision/efficientnet_b0",
    "torchvision/convnext_tiny",
)


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]
)
def test_maps(model):
    body = backbone(model, activation="acon-c")
    assert (body.channels, body.strides) == (MODELS[model], (8, 16, 32))
    maps = body.eval()(torch.randn(1, 3, 64, 96))
    assert [tuple(y.shape) for y in maps] == [
        (1, channels, 64 // stride, 96 // stride) for channels, stride in zip(MODELS[model], (8, 16, 32), strict=True)
    ]
    assert any(isinstance(module, AconC) for module in body.modules())
    assert body.training is False
    body.train()
    sum(y.square().mean() for y in body(torch.randn(2, 3, 64, 64))).backward()
    assert all(parameter.grad is not None for parameter in body.parameters())  # as distributed training wants it


def test_torchvisions_maps_are_those_of_its_network():
    torch.manual_seed(0)
    body = backbone("torchvision/resnet18", activation=None, out_indices=(-1, 1)).eval()
    import torchvision

    whole = torchvision.models.resnet18().eval()
    whole.load_state_dict(body.state_dict(), strict=False)
    seen = {}
    for name in ("layer1", "layer4"):
        getattr(whole, name).register_forward_hook(lambda module, args, y, name=name: seen.__setitem__(name, y))
    images = torch.randn(1, 3, 64, 64)
    whole(images)
    maps = body(images)
    assert torch.equal(maps[0], seen["layer4"])
    assert torch.equal(maps[1], seen["layer1"])


@pytest.mark.parametrize(
    ("model", "stride"),
    [
        ("resnet18", 8),
        ("resnet18", 16),
        ("shufflenetv2_x0_5", 8),
        ("mobilenetv2_x0_25", 8),
        ("timm/resnet18", 8),
        ("torchvision/mobilenet_v3_small", 8),
        pytest.param("resnet50", 8, marks=pytest.mark.slow),
        pytest.param("torchvision/resnet50", 8, marks=pytest.mark.slow),
    ],
)
def test_dilated_maps_are_the_old_ones_at_every_so_manieth_pixel(model, stride):
    torch.manual_seed(0)
    old = backbone(model, activation="acon-c", out_indices=(-2, -1)).double().eval()
    torch.manual_seed(0)
    new = backbone(model, activation="acon-c", out_indices=(-2, -1), output_stride=stride).double().eval()
    assert (old.strides, new.strides) == ((16, 32), (min(16, stride), stride))
    assert new.state_dict().keys() == old.state_dict().keys()
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for fine, coarse, step in zip(new(images), old(images), (16 // new.strides[0], 32 // stride), strict=True):
            torch.testing.assert_close(fine[..., ::step, ::step], coarse)


def test_the_papers_dilations():
    """By 2 and 4 in the last two stages, whose strides are gone."""
    body = backbone("resnet50", activation="relu", out_indices=(-2, -1), output_stride=8)
    for stage, dilation, blocks in ((2, 2, 6), (3, 4, 3)):
        convs = [conv for conv in body.stages[stage].modules() if isinstance(conv, nn.Conv2d)]
        assert {conv.stride for conv in convs} == {(1, 1)}
        wide = [conv for conv in convs if conv.kernel_size == (3, 3)]
        assert [(conv.dilation, conv.padding) for conv in wide] == [((dilation,) * 2, (dilation,) * 2)] * blocks
    assert {conv.dilation for conv in body.stages[1].modules() if isinstance(conv, nn.Conv2d)} == {(1, 1)}


def test_dilation_changes_nothing_else():
    states = []
    for stride in (None, 8):
        torch.manual_seed(0)
        body = backbone("resnet18", activation="meta-acon", output_stride=stride)
        assert all(module.training for module in body.modules())
        states.append([*body.state_dict().values(), torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize("model", ["tfnet_0_5", "resnet8"])
def test_what_cannot_be_dilated(model):
    with pytest.raises(SettingsError, match=r"cannot be kept at stride 2.*by more than convolutions"):
        backbone(model, activation="acon-frelu", output_stride=2)


def test_mistakes_are_told():
    with pytest.raises(SettingsError, match="power of 2"):
        backbone("resnet18", activation="relu", output_stride=12)
    with pytest.raises(SettingsError, match="torchvision's DenseNet are not known"):
        backbone("torchvision/densenet121", activation="relu")
    with pytest.raises(SettingsError, match="there is no map 7 of 5"):
        backbone("torchvision/resnet18", activation="relu", out_indices=(7,))
    with pytest.raises(SettingsError, match="timm gives no feature maps"):
        backbone("timm/resnet18", activation="relu", out_indices=(9,))


@pytest.mark.parametrize("activation", [None, "acon-c"])
@pytest.mark.parametrize("build", [partial(pspnet, classes=3), partial(retinanet, classes=3), backbone])
def test_a_network_for_images_of_one_size_is_no_backbone(build, activation):
    with pytest.raises(SettingsError, match=r"224 cannot be a backbone: it takes no image of 64×64.*timm/resnet50$"):
        build("timm/vit_tiny_patch16_224", activation=activation)


def test_ours_are_features():
    body = backbone("shufflenetv2_x0_5", activation="swish", out_indices=(0, 2))
    assert isinstance(body, Features)
    body.load_state_dict(create("shufflenetv2_x0_5", activation="swish").state_dict())
