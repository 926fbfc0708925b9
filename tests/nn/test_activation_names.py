"""Every name of `activations()` on every shape."""

import copy

import pytest
import torch
from torch import nn

import aconite
from aconite import nn as ann
from aconite.errors import SettingsError, UnknownNameError

NAMES = list(aconite.activations())
FUNNELS = ("frelu", "acon-frelu")
GATED = ("swish", "acon-a", "acon-b", "acon-c", "meta-acon", "meta-acon-layer", "meta-acon-pixel")
SHAPES = {
    "(N,C)": ((4, 6), 1),
    "(N,C,L)": ((4, 6, 6), 1),
    "(N,C,H,W)": ((4, 6, 5, 3), 1),
    "(N,C,D,H,W)": ((2, 6, 2, 3, 4), 1),
    "(N,L,C)": ((4, 6, 6), -1),
    "(N,H,W,C)": ((4, 5, 3, 6), -1),
    "(C,H,W)": ((6, 5, 3), -3),
    "(C,)": ((6,), -1),
}


def test_the_promised_names():
    assert set(NAMES) == {
        "identity",
        "relu",
        "relu6",
        "leaky-relu",
        "prelu",
        "sigmoid",
        "tanh",
        "silu",
        "mish",
        "elu",
        "softplus",
        "gelu",
        "hardswish",
        "maxout",
        "frelu",
        "se-relu",
        "swish",
        "acon-a",
        "acon-b",
        "acon-c",
        "meta-acon",
        "meta-acon-layer",
        "meta-acon-pixel",
        "acon-frelu",
    }
    assert all(line and "\n" not in line for line in aconite.activations().values())
    with pytest.raises(TypeError):
        aconite.activations()["mine"] = "line"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lazy", [False, True])
def test_shapes(name, shape, lazy):
    size, dim = SHAPES[shape]
    if name in FUNNELS and shape != "(N,C,H,W)":
        return
    torch.manual_seed(0)
    layer = aconite.activation(name, None if lazy else 6, channel_dim=dim)
    x = torch.randn(size, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    (y * torch.randn(size)).sum().backward()
    assert x.grad.isfinite().all()
    for parameter_name, p in layer.named_parameters():
        assert p.grad is not None, parameter_name
        assert p.grad.isfinite().all(), parameter_name
    learnt = {n for n, _ in layer.named_parameters() if "." not in n}
    expected = {
        "swish": {"beta"},
        "acon-a": {"beta"},
        "acon-b": {"p2", "beta"},
        "acon-c": {"p1", "p2", "beta"},
        "prelu": {"weight"},
    }
    expected |= {kind: {"p1", "p2"} for kind in ("maxout", "meta-acon", "meta-acon-layer", "meta-acon-pixel")}
    assert learnt == expected.get(name, set())
    assert all(p.shape == (6,) for n, p in layer.named_parameters() if n in learnt)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_is_kept(name):
    layer = aconite.activation(name, 6)
    x = torch.randn(4, 6, 5, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    assert y.stride() == x.stride()
    torch.testing.assert_close(y, copy.deepcopy(layer)(x.contiguous()))
    assert torch.autograd.grad(y, x, torch.ones_like(y))[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", NAMES)
def test_inplace_is_accepted_and_ignored(name):
    x = torch.randn(4, 6, 5, 3)
    before = x.clone()
    layer = aconite.activation(name, 6, inplace=True)
    y = layer(x)
    assert torch.equal(x, before)
    assert name == "identity" or y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize(
    "kind",
    [
        ann.AconA,
        ann.AconB,
        ann.AconC,
        ann.MetaAconC,
        ann.AconFReLU,
        ann.FReLU,
        ann.SqueezeExcite,
        ann.Maxout,
        ann.PReLU,
    ],
)
def test_inplace_is_accepted_by_the_classes(kind):
    x = torch.randn(4, 6, 5, 3)
    before = x.clone()
    kind(6, inplace=True)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", GATED)
def test_hard_gate(name):
    torch.manual_seed(0)
    layer = aconite.activation(name, 6, gate="hard")
    x = 5 * torch.randn(4, 6, 5, 3)
    hard = layer(x)
    soft = aconite.activation(name, 6)
    soft.load_state_dict(layer.state_dict())
    assert not torch.allclose(hard, soft(x))
    assert hard.isfinite().all()


def test_hard_gate_is_hardswish_and_reaches_acon_frelu():
    x = torch.linspace(-5, 5, 31)[None]
    torch.testing.assert_close(aconite.activation("swish", 31, gate="hard")(x), nn.functional.hardswish(x))
    assert aconite.activation("acon-frelu", 6, gate="hard").gate == "hard"


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_and_state_dict(name):
    layer = aconite.activation(name, 6)
    twin = copy.deepcopy(layer)
    again = aconite.activation(name, 6)
    again.load_state_dict(layer.state_dict())
    x = torch.randn(4, 6, 5, 3)
    y = layer(x)
    assert torch.equal(y, twin(x))
    assert torch.equal(y, again(x))


@pytest.mark.parametrize("name", ["acon-b", "acon-c", "meta-acon", "meta-acon-layer", "meta-acon-pixel", "maxout"])
def test_init_reaches_the_layer(name):
    layer = aconite.activation(name, 6, init="swish")
    assert torch.equal(layer.p2, torch.zeros(6))
    assert not hasattr(layer, "p1") or torch.equal(layer.p1, torch.ones(6))


def test_fixed_functions():
    x = torch.linspace(-4, 4, 41)[None]
    f = nn.functional
    for name, function in {
        "identity": lambda t: t,
        "relu": f.relu,
        "relu6": f.relu6,
        "leaky-relu": lambda t: f.leaky_relu(t, 0.01),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": f.silu,
        "mish": f.mish,
        "elu": f.elu,
        "softplus": f.softplus,
        "gelu": f.gelu,
        "hardswish": f.hardswish,
        "swish": f.silu,
        "acon-a": f.silu,
    }.items():
        torch.testing.assert_close(aconite.activation(name, 41)(x), function(x))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: aconite.activation("acon-d", 4), UnknownNameError, "did you mean 'acon-"),
        (lambda: aconite.activation("MetaAcon", 4), UnknownNameError, "did you mean 'meta-acon'?"),
        (lambda: aconite.activation(None, 4), UnknownNameError, "unknown activation 'None'"),
        (lambda: aconite.activation("frelu", 4, channel_dim=-1), SettingsError, "takes channel_dim=1 only, not -1"),
        (lambda: aconite.activation("relu", 4, r=8), SettingsError, "activation 'relu' does not take these options"),
        (lambda: aconite.activation("acon-c", 0), SettingsError, "channels=0"),
        (lambda: aconite.activation("acon-c", 4, init="silu"), SettingsError, "init='silu' is not known"),
    ],
)
def test_mistakes(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_options_pass_through():
    assert aconite.activation("meta-acon", 64, r=8).fc1.out_channels == 8
    assert aconite.activation("meta-acon-layer", 64, beta_scale=2.0).beta_scale == 2.0
    assert aconite.activation("leaky-relu", 64, negative_slope=0.3).negative_slope == 0.3


def test_a_misspelt_init_is_refused_even_where_it_changes_nothing():
    with pytest.raises(SettingsError, match="near-swish"):
        ann.activation("relu", 8, init="nearswish")
