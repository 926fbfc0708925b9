"""ACON-A/B/C, Maxout, PReLU, FReLU, ACON-FReLU and squeeze-and-excitation against formulas written out here."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aconite import nn as ann
from aconite.errors import SettingsError, ShapeError

sigmoid = torch.sigmoid
GATE = {"sigmoid": torch.sigmoid, "hard": lambda z: F.relu6(z + 3) / 6}


def column(parameter, x, dim=1):
    shape = [1] * x.ndim
    shape[dim] = -1
    return parameter.view(shape)


@pytest.mark.parametrize("gate", GATE)
@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 4), 1), ((2, 3, 3), 1), ((2, 5, 3, 4), 1), ((2, 3, 5), -1), ((5, 3, 4), -3), ((5,), -1)]
)
def test_layers_are_their_formulas(shape, dim, gate):
    x, c, s = torch.randn(shape), shape[dim], GATE[gate]
    a = ann.AconA(c, beta=1.5, gate=gate, channel_dim=dim)
    torch.testing.assert_close(a(x), x * s(1.5 * x))
    assert list(dict(a.named_parameters())) == ["beta"]
    b = ann.AconB(c, gate=gate, channel_dim=dim)
    p2 = column(b.p2, x, dim)
    torch.testing.assert_close(b(x), (1 - p2) * x * s((1 - p2) * x) + p2 * x)
    assert set(dict(b.named_parameters())) == {"p2", "beta"}
    layer = ann.AconC(c, gate=gate, channel_dim=dim)
    with torch.no_grad():
        layer.beta.uniform_(-2, 2)
    p1, p2, beta = (column(p, x, dim) for p in (layer.p1, layer.p2, layer.beta))
    torch.testing.assert_close(layer(x), (p1 - p2) * x * s(beta * (p1 - p2) * x) + p2 * x)
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == {"p1": (c,), "p2": (c,), "beta": (c,)}


def test_fixed_beta_needs_no_channels_and_learns_nothing():
    layer = ann.AconA(learn_beta=False)
    assert not list(layer.parameters())
    for shape in ((3,), (2, 3), (2, 3, 4)):
        x = torch.randn(shape)
        torch.testing.assert_close(ann.AconA(learn_beta=False, channel_dim=-1)(x), F.silu(x))
    assert layer.materialise(4) is layer
    assert not list(layer.parameters())
    with pytest.raises(RuntimeError, match="beta"):
        layer.load_state_dict({"beta": torch.ones(4)})
    assert not list(layer.parameters())


def test_maxout_and_prelu():
    x = torch.randn(2, 5, 3)
    maxout = ann.Maxout(5)
    torch.testing.assert_close(maxout(x), torch.maximum(column(maxout.p1, x) * x, column(maxout.p2, x) * x))
    for dim, size in ((1, 5), (-1, 3), (0, 2)):
        ours = ann.PReLU(size, channel_dim=dim)
        with torch.no_grad():
            ours.weight.copy_(torch.randn(size))
        torch.testing.assert_close(ours(x), x.clamp(min=0) + column(ours.weight, x, dim) * x.clamp(max=0))
    theirs = nn.PReLU(5)
    ann.PReLU(5).load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("train", [True, False])
def test_frelu(train):
    layer = ann.FReLU(5).train(train)
    twin = copy.deepcopy(layer)
    nn.init.normal_(layer.conv_frelu.weight)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(layer(x), torch.maximum(x, twin.bn_frelu(twin.conv_frelu(x))))


@pytest.mark.parametrize("learn_beta", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("train", [True, False])
def test_acon_frelu(train, stride, learn_beta):
    layer = ann.AconFReLU(5, stride, learn_beta=learn_beta).train(train)
    nn.init.normal_(layer.conv_frelu.weight)
    beta = 1.0
    if learn_beta:
        nn.init.uniform_(layer.beta, -2, 2)
        beta = layer.beta.view(1, -1, 1, 1)
    twin = copy.deepcopy(layer)
    x = torch.randn(2, 5, 7, 6)
    near = twin.bn1(twin.conv_frelu(x))
    own = F.max_pool2d(x, 3, 2, 1) if stride == 2 else x
    y = layer(x)
    torch.testing.assert_close(y, twin.bn2((own - near) * sigmoid(beta * (own - near)) + near))
    assert y.shape == (2, 5, -(-7 // stride), -(-6 // stride))
    names = {key.split(".")[0] for key in layer.state_dict()}
    assert names == {"conv_frelu", "bn1", "bn2"} | ({"beta"} if learn_beta else set())
    assert not layer.conv_frelu.bias.isnan().any()


@pytest.mark.parametrize(
    ("shape", "dim"), [((2, 32), 1), ((2, 32, 3), 1), ((2, 32, 3, 4), 1), ((2, 3, 32), -1), ((32, 3, 4), -3)]
)
def test_squeeze_excite(shape, dim):
    layer, relu = ann.SqueezeExcite(32, channel_dim=dim), ann.SqueezeExciteReLU(32, channel_dim=dim)
    relu.load_state_dict(layer.state_dict())
    x = torch.randn(shape)
    batch = (x[None] if dim == -3 else x).movedim(dim, -1)
    mean = batch.reshape(batch.shape[0], -1, 32).mean(1)
    w1, w2 = layer.fc1.weight.flatten(1), layer.fc2.weight.flatten(1)
    scale = sigmoid(F.relu(mean @ w1.T + layer.fc1.bias) @ w2.T + layer.fc2.bias)
    truth = (batch * scale.view(-1, *(1,) * (batch.ndim - 2), 32)).movedim(-1, dim)
    torch.testing.assert_close(layer(x), truth[0] if dim == -3 else truth)
    torch.testing.assert_close(relu(x), layer(x.relu()))
    assert layer.fc1.out_channels == 16
    assert ann.SqueezeExcite(1024).fc1.out_channels == 64
    assert ann.SqueezeExcite(32, hidden=2).fc1.out_channels == 2


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_inputs_round_once(kind):
    torch.manual_seed(0)
    x = torch.randn(4, 32, 5).to(kind)
    for layer in (ann.PReLU(32), ann.Maxout(32), ann.AconC(32), ann.SqueezeExcite(32), ann.MetaAconC(32).eval()):
        y, truth = layer(x), copy.deepcopy(layer).double()(x.double())
        assert y.dtype == kind
        tolerance = torch.finfo(kind).eps / 2 * truth.abs() + 2e-6
        assert ((y.double() - truth).abs() <= tolerance).all(), layer


def test_parameters_are_where_they_were_asked_for():
    layer = ann.AconC(4, device="meta", dtype=torch.float16)
    assert layer.p1.device.type == "meta"
    assert layer.beta.dtype == torch.float16
    for kind in (
        ann.AconA,
        ann.AconB,
        ann.AconC,
        ann.Maxout,
        ann.PReLU,
        ann.MetaAconC,
        ann.SqueezeExcite,
        ann.FReLU,
        ann.AconFReLU,
    ):
        assert {p.dtype for p in kind(4, dtype=torch.float64).parameters()} == {torch.float64}


def test_reference_argument_names():
    assert ann.AconC(width=8).channels == ann.MetaAconC(width=8).channels == 8
    assert ann.MetaAconC(64, 8).fc1.out_channels == 8
    assert ann.MetaAconC(64, k=1, s=1).channels == 64
    with pytest.raises(SettingsError, match="channels=8 and width=8 are two names"):
        ann.AconC(8, width=8)


@pytest.mark.parametrize("kind", [ann.AconA, ann.AconC, ann.MetaAconC])
def test_a_truth_value_is_the_inplace_of_generic_code(kind):
    for inplace in (True, False):
        layer = kind(inplace)
        assert layer.channels is None
        layer(torch.zeros(2, 5, 3, 3))
        assert layer.channels == 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ann.AconC(0), "channels=0"),
        (lambda: ann.AconC(2.5), "channels=2.5"),
        (lambda: ann.AconC(4, gate="soft"), "gate='soft'"),
        (lambda: ann.AconC(4, init="normal"), "init='normal' is not known; write 'paper', 'swish', 'near-swish'"),
        (lambda: ann.AconFReLU(4, stride=3), "stride=3"),
        (lambda: ann.SqueezeExcite(4, r=0), "r=0"),
        (lambda: ann.SqueezeExcite(4, hidden=0), "hidden=0"),
        (lambda: ann.AconC(4).materialise(5), "already has 4 channels"),
    ],
)
def test_wrong_settings(call, words):
    with pytest.raises(SettingsError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "x", "words"),
    [
        (ann.AconC(4), torch.zeros(2, 5), ["4 channels", "(2, 5)", "channel_dim=1", "AconC(5)"]),
        (ann.MetaAconC(4), torch.zeros(2, 3, 4), ["4 channels", "(2, 3, 4)", "channel_dim=1"]),
        (ann.AconC(4), torch.zeros(4), ["channel_dim=1", "channel_dim=-1"]),
        (ann.AconC(4, channel_dim=-3), torch.zeros(4, 4), ["channel_dim=-3", "(4, 4)"]),
        (ann.FReLU(4), torch.zeros(2, 4, 3), ["(N, C, H, W)", "(2, 4, 3)"]),
    ],
)
def test_wrong_shapes(layer, x, words):
    with pytest.raises(ShapeError) as caught:
        layer(x)
    for word in words:
        assert word in str(caught.value)
