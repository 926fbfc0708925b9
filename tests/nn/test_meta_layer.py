"""Meta-ACON: generators, batch size one, gates, scales."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aconite import nn as ann
from aconite.errors import SettingsError

GATE = {"sigmoid": torch.sigmoid, "hard": lambda z: F.relu6(z + 3) / 6}
INPUTS = [
    ((2, 32), 1),
    ((4, 32, 3), 1),
    ((2, 32, 3, 4), 1),
    ((2, 32, 2, 3, 4), 1),
    ((2, 3, 32), -1),
    ((2, 3, 4, 32), -1),
    ((32, 3, 4), -3),
]


def batched(x, dim):
    """(N, C, positions), and how to go back."""
    unbatched = dim % x.ndim == 0
    wide = x[None] if unbatched else x.movedim(dim, 1)

    def back(y):
        return y.view(wide.shape)[0] if unbatched else y.view(wide.shape).movedim(1, dim)

    return wide.reshape(*wide.shape[:2], -1), back


@pytest.mark.parametrize("gate", GATE)
@pytest.mark.parametrize("granularity", ["layer", "channel", "pixel"])
@pytest.mark.parametrize(("shape", "dim"), INPUTS)
def test_the_three_granularities(shape, dim, granularity, gate):
    torch.manual_seed(0)
    layer = ann.MetaAconC(32, granularity=granularity, norm=None, beta_scale=2.5, gate=gate, channel_dim=dim)
    x, s = torch.randn(shape), GATE[gate]
    flat, back = batched(x, dim)
    if granularity == "channel":
        hidden = F.linear(flat.mean(2), layer.fc1.weight.flatten(1), layer.fc1.bias)
        beta = 2.5 * s(F.linear(hidden, layer.fc2.weight.flatten(1), layer.fc2.bias))[:, :, None]
        assert layer.generate_beta(x).shape == flat.shape[:2]
    elif granularity == "layer":
        beta = 2.5 * s(flat.mean((1, 2)))[:, None, None]
        assert layer.generate_beta(x).shape == (flat.shape[0], 1)
    else:
        beta = 2.5 * s(flat)
        assert layer.generate_beta(x).shape == x.shape
    p1, p2 = layer.p1[:, None], layer.p2[:, None]
    truth = (p1 - p2) * flat * s(beta * (p1 - p2) * flat) + p2 * flat
    torch.testing.assert_close(layer(x), back(truth))
    assert layer.generate_beta(x).min() >= 0
    assert layer.generate_beta(x).max() <= 2.5


@pytest.mark.parametrize(("shape", "dim"), INPUTS)
def test_batch_of_one_trains_on_running_statistics(shape, dim):
    torch.manual_seed(0)
    layer = ann.MetaAconC(32, channel_dim=dim)
    for norm in (layer.bn1, layer.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(shape if dim == -3 else (1, *shape[1:]))
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    y = layer(x)
    torch.testing.assert_close(y, copy.deepcopy(layer).eval()(x))
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert layer.fc1.weight.grad.abs().sum() > 0


def test_larger_batches_train_on_their_own_statistics():
    torch.manual_seed(0)
    layer, x = ann.MetaAconC(32), torch.randn(4, 32, 3, 3)
    twin = copy.deepcopy(layer)
    mean = x.mean((2, 3), keepdim=True)
    beta = torch.sigmoid(twin.bn2(twin.fc2(twin.bn1(twin.fc1(mean)))))
    torch.testing.assert_close(layer.generate_beta(x), beta.flatten(1))
    assert layer.bn1.num_batches_tracked == 1
    torch.testing.assert_close(layer.bn2.running_mean, twin.bn2.running_mean)
    frozen = ann.MetaAconC(32)
    frozen.bn1.eval(), frozen.bn2.eval()
    before = frozen.bn1.running_mean.clone()
    frozen(x)
    assert torch.equal(frozen.bn1.running_mean, before)


def test_layer_granularity_keeps_float64():
    layer = ann.MetaAconC(4, granularity="layer")
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(layer.generate_beta(x)[:, 0], torch.sigmoid(x.mean((1, 2))), rtol=1e-14, atol=1e-14)


def test_hidden_widths():
    assert ann.MetaAconC(64).fc1.out_channels == 16
    assert ann.MetaAconC(1024).fc1.out_channels == 64
    assert ann.MetaAconC(64, r=8).fc1.out_channels == 8
    assert ann.MetaAconC(64, hidden=4, bias=False).fc2.bias is None
    assert {k: tuple(v.shape) for k, v in ann.MetaAconC(64, norm=None).state_dict().items()} == {
        "p1": (64,),
        "p2": (64,),
        "fc1.weight": (16, 64, 1, 1),
        "fc1.bias": (16,),
        "fc2.weight": (64, 16, 1, 1),
        "fc2.bias": (64,),
    }


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_layer(kind):
    torch.manual_seed(0)
    layer = ann.MetaAconC(32).eval()
    x = torch.randn(4, 32, 5, 5).to(kind)
    truth = copy.deepcopy(layer).to(kind).double()(x.double())
    y = layer.to(kind)(x)
    assert y.dtype == kind
    assert layer.generate_beta(x).dtype == torch.float32
    torch.testing.assert_close(y.double(), truth, rtol=8 * torch.finfo(kind).eps, atol=8 * torch.finfo(kind).eps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"granularity": "image"}, "granularity='image' is not known; write 'layer', 'channel' or 'pixel'"),
        ({"norm": "layer"}, "norm='layer' is not known; write norm='batch' or norm=None"),
        ({"r": 0}, "r=0"),
        ({"r": 2.0}, "r=2.0"),
        ({"hidden": 0}, "hidden=0"),
        ({"hidden": 2.5}, "hidden=2.5"),
        ({"k": 3}, "k=3"),
        ({"beta_scale": 0.0}, "beta_scale=0.0"),
        ({"beta_scale": float("inf")}, "beta_scale=inf"),
        ({"gate": "soft"}, "gate='soft'"),
    ],
)
def test_wrong_settings(options, words):
    with pytest.raises(SettingsError) as caught:
        ann.MetaAconC(8, **options)
    assert words in str(caught.value)


def test_repr_is_the_call():
    for options in (
        {},
        {"r": 8},
        {"norm": None},
        {"hidden": 5, "bias": False},
        {"gate": "hard", "beta_scale": 2.0, "channel_dim": -1},
    ):
        layer = ann.MetaAconC(64, **options)
        again = eval(f"ann.MetaAconC({layer.extra_repr()})")
        assert again.extra_repr() == layer.extra_repr()
        assert isinstance(again.fc1, nn.Conv2d)
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in layer.state_dict().items()
        }
    assert ann.MetaAconC(64).extra_repr() == "64"
