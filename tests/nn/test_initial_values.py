"""Starting points by name, and the ACON-C nearest to an activation."""

import copy

import pytest
import torch
from torch import nn

from aconite import nn as ann
from aconite import reference
from aconite.errors import SettingsError
from aconite.nn import Match, from_activation

GATES = ("sigmoid", "hard")


def gap(module, match, gate="sigmoid", reach=50.0):
    """The largest distance on a dense sweep, in float64; per-channel values meet (positions, channels)."""
    x = torch.linspace(-reach, reach, 200_001, dtype=torch.float64)
    p1, p2, beta = (torch.as_tensor(v, dtype=torch.float64) for v in (match.p1, match.p2, match.beta))
    channels = max(p1.numel(), p2.numel())
    wide = x[:, None].expand(-1, channels)
    module = copy.deepcopy(module).double()
    with torch.no_grad():
        return float((module(wide) - reference.acon_c(wide, p1, p2, beta, gate)).abs().max())


def test_names():
    torch.manual_seed(0)
    paper = ann.AconC(20_000).requires_grad_(False)
    for p in (paper.p1, paper.p2):
        assert float(p.mean()) == pytest.approx(0, abs=0.03)
        assert float(p.std()) == pytest.approx(1, abs=0.03)
    assert abs(float(torch.corrcoef(torch.stack([paper.p1, paper.p2]))[0, 1])) < 0.03
    near = ann.AconC(20_000, init="near-swish").requires_grad_(False)
    assert (float(near.p1.mean()), float(near.p1.std())) == pytest.approx((1, 0.1), abs=0.005)
    assert (float(near.p2.mean()), float(near.p2.std())) == pytest.approx((0, 0.1), abs=0.005)
    swish = ann.AconC(5, init="swish")
    assert (swish.p1.tolist(), swish.p2.tolist()) == ([1] * 5, [0] * 5)
    for layer in (paper, near, swish):
        assert (layer.beta == 1).all()
    assert ann.AconC(5).init == "paper"


@pytest.mark.parametrize("gate", GATES)
def test_exact_ones(gate):
    x = torch.linspace(-20, 20, 401)[:, None].repeat(1, 3)
    own = [
        ann.AconA(3, gate=gate),
        ann.AconB(3, gate=gate),
        ann.AconC(3, gate=gate),
        ann.AconA(learn_beta=False, beta=1.7, gate=gate),
    ]
    for module in (nn.Identity(), nn.SiLU() if gate == "sigmoid" else nn.Hardswish(), *own):
        match = from_activation(module, gate=gate)
        assert match.max_deviation == 0
        torch.testing.assert_close(ann.AconC(3, init=match, gate=gate)(x), module(x))


def prelu(*slopes):
    module = nn.PReLU(len(slopes))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(slopes))
    return module


def own_prelu(*slopes):
    module = ann.PReLU(len(slopes))
    module.load_state_dict(prelu(*slopes).state_dict())
    return module


PIECEWISE = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.1),
    "leaky above 1": nn.LeakyReLU(3.0),
    "leaky below 0": nn.LeakyReLU(-0.5),
    "prelu": prelu(0.25),
    "prelu per channel": prelu(0.25, 1.5, -0.3, 1.0, 0.0),
    "own prelu": own_prelu(0.25, 1.5, -0.3),
    "maxout": ann.Maxout(7),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("tolerance", [0.01, 0.2])
@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_linear_ones_stay_within_the_tolerance(name, tolerance, gate):
    module = PIECEWISE[name]
    match = from_activation(module, tolerance=tolerance, gate=gate)
    measured = gap(module, match, gate)
    assert match.max_deviation == tolerance
    assert match.domain is None
    assert measured <= tolerance * (1 + 1e-6)
    assert measured >= 0.99 * tolerance
    layer = ann.AconC(match.p2.numel() if isinstance(match.p2, torch.Tensor) else 4, init=match, gate=gate)
    assert layer.p2.ndim == 1


def test_the_documented_numbers():
    match = from_activation(nn.ReLU())
    assert (match.p1, match.p2) == (1.0, 0.0)
    assert match.beta == pytest.approx(27.85, abs=0.005)
    assert match.max_deviation == 0.01
    assert (from_activation(prelu(0.5, 2.0)).beta < 0).tolist() == [False, True]


FITTED = [nn.GELU(), nn.Mish(), nn.ReLU6(), nn.ELU(), nn.Softplus(), nn.Tanh(), nn.Hardswish(), nn.Sigmoid()]


@pytest.mark.parametrize("module", FITTED, ids=lambda m: type(m).__name__)
def test_fitted_ones_report_what_is_measured(module):
    state = torch.get_rng_state()
    match = from_activation(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert match.domain == (-8.0, 8.0)
    assert gap(module, match, reach=8.0) == pytest.approx(match.max_deviation, rel=1e-3)
    swish = Match(p1=1.0, p2=0.0, beta=1.0, max_deviation=0.0)
    assert match.max_deviation <= gap(module, swish, reach=8.0) + 1e-9


@pytest.mark.parametrize("module", [nn.GELU(), nn.Mish(), nn.Hardswish(), nn.Softplus()])
def test_a_fit_holds_for_far_inputs(module):
    match = from_activation(module)
    assert (match.p1, match.p2) == (1.0, 0.0)
    assert gap(module, match, reach=1e4) <= match.max_deviation + 1e-9


def test_good_fits_are_good():
    assert from_activation(nn.GELU()).max_deviation < 0.021
    assert from_activation(nn.Mish()).max_deviation < 0.11
    assert from_activation(nn.SiLU(), gate="hard").max_deviation < 0.15
    wide = from_activation(nn.GELU(), domain=(-3.0, 3.0))
    assert wide.domain == (-3.0, 3.0)
    assert gap(nn.GELU(), wide, reach=3.0) == pytest.approx(wide.max_deviation, rel=1e-3)


@pytest.mark.parametrize("slope", [0.5, 1.702, 1.0])
def test_a_fit_that_is_exact_is_finite(slope):
    class Sloped(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(slope * x)

    match = from_activation(Sloped())
    assert (match.p1, match.p2, match.beta) == pytest.approx((1.0, 0.0, slope), abs=1e-5)
    assert match.max_deviation < 1e-5
    assert gap(Sloped(), match, reach=8.0) < 1e-5


def test_the_module_and_its_mode_stay():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.7))

        def forward(self, x):
            return self.scale * nn.functional.gelu(x)

    module = Scaled()
    with torch.inference_mode():
        match = from_activation(module)
    assert module.training
    assert module.scale.grad is None
    assert match.max_deviation < 0.03
    assert module.scale.dtype == torch.float32


@pytest.mark.parametrize(
    "module", [nn.Linear(3, 3), nn.Softmax(-1), nn.GLU(), ann.AconFReLU(4), ann.MetaAconC(4), nn.LayerNorm(8001)]
)
def test_what_is_no_elementwise_function(module):
    with pytest.raises(SettingsError, match="is not an elementwise activation that can be imitated"):
        from_activation(module)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_activation(nn.ReLU(), tolerance=0), "tolerance=0: expected a positive number"),
        (lambda: from_activation(nn.ReLU(), tolerance=float("nan")), "tolerance=nan"),
        (lambda: from_activation(nn.GELU(), domain=(3, -3)), "domain=(3, -3)"),
        (lambda: from_activation(nn.ReLU(), gate="soft"), "gate='soft'"),
        (lambda: from_activation(nn.ReLU), "expected a module, such as torch.nn.ReLU()"),
        (lambda: from_activation(ann.AconC()), "AconC has no values yet"),
        (lambda: ann.AconC(4, init=from_activation(prelu(0.1, 0.2))), "2 values for a layer of 4 channels"),
        (lambda: ann.AconB(4, init=Match(p1=2.0, p2=0.0, beta=1.0, max_deviation=0.0)), "AconB has p1 = 1"),
        (lambda: ann.MetaAconC(4, init=from_activation(nn.ReLU())), "beta_scale=55.69"),
        (lambda: ann.MetaAconC(4, init=from_activation(prelu(2.0)), beta_scale=60), "cannot"),
        (
            lambda: ann.MetaAconC(4, init=from_activation(nn.SiLU()), beta_scale=2, granularity="layer"),
            "granularity='layer'",
        ),
        (lambda: ann.MetaAconC(4, init=from_activation(nn.SiLU()), beta_scale=2, norm=None, bias=False), "bias=False"),
    ],
)
def test_mistakes(call, words):
    with pytest.raises(SettingsError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize(
    ("module", "gate"),
    [(nn.SiLU(), "sigmoid"), (nn.ReLU(), "sigmoid"), (prelu(0.1, 0.2, 0.3, 0.4), "sigmoid"), (nn.Hardswish(), "hard")],
)
def test_meta_acon_starts_as_the_activation(module, gate, batch, norm, lazy):
    torch.manual_seed(0)
    match = from_activation(module, gate=gate)
    largest = float(torch.as_tensor(match.beta).max())
    layer = ann.MetaAconC(None if lazy else 4, init=match, norm=norm, gate=gate, beta_scale=3 * largest)
    x = torch.randn(batch, 4, 5, 5)
    torch.testing.assert_close(layer.generate_beta(x), torch.as_tensor(match.beta).float().expand(batch, 4))
    y = layer(x)
    assert float((y - module(x)).abs().max()) <= match.max_deviation + 1e-5
    (y * torch.randn_like(y)).sum().backward()
    last = layer.fc2 if norm is None else layer.bn2
    for p in layer.parameters():
        assert p.grad.isfinite().all()
        assert p.grad.abs().max() < 1e3
    for p in (layer.p1, layer.p2, last.weight, last.bias):
        assert p.grad.abs().sum() > 0


def test_the_other_gate_is_another_function():
    match = from_activation(ann.AconA(learn_beta=False, gate="hard", channel_dim=-1))
    assert match.max_deviation == pytest.approx(from_activation(nn.Hardswish()).max_deviation, rel=1e-6)
    with pytest.raises(SettingsError, match="AconC is not an elementwise activation"):
        from_activation(ann.AconC(3, gate="hard"))


def test_match_in_float64_default():
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        layer = ann.AconC(2, init=from_activation(nn.LeakyReLU(0.1)))
    finally:
        torch.set_default_dtype(previous)
    assert layer.p2.dtype == torch.float64
    assert layer.p2.tolist() == [0.1, 0.1]
