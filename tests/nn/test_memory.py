"""Layers on tensors whose memory does not hold their values, and under another default device."""

import copy

import pytest
import torch

from aconite import nn
from aconite.functional import acon_c

DEFERRED = {"negated": torch._neg_view, "zero": lambda t: torch._efficientzerotensor(t.shape)}
SHAPE = (6, 8, 5, 3)


class NormReLU(torch.nn.Module):
    def __init__(self, channels, device=None):
        super().__init__()
        self.norm, self.act = torch.nn.BatchNorm2d(channels, device=device), torch.nn.ReLU()

    def forward(self, x):
        return nn.norm_activation(x, self.norm, self.act)


LAYERS = {
    "AconA": nn.AconA,
    "AconB": nn.AconB,
    "AconC": nn.AconC,
    "MetaAconC": nn.MetaAconC,
    "MetaAconC without norms": lambda c, device=None: nn.MetaAconC(c, norm=None, device=device),
    "AconFReLU": nn.AconFReLU,
    "AconFReLU that learns": lambda c, device=None: nn.AconFReLU(c, learn_beta=True, device=device),
    "BatchNormAconC2d": nn.BatchNormAconC2d,
    "BatchNormMetaAconC2d": nn.BatchNormMetaAconC2d,
    "norm and ReLU": NormReLU,
}


@pytest.fixture(params=DEFERRED)
def deferred(request):
    return DEFERRED[request.param]


@pytest.fixture
def on_meta():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def step(layer, x, grad):
    """y and the gradients of x and the parameters; no gradient is zeros."""
    x = x.detach().requires_grad_()
    y = layer(x)
    leaves = x, *layer.parameters()
    found = torch.autograd.grad(y, leaves, grad, allow_unused=True)
    return y, *(torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True))


def close(found, expected):
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)  # the pair's own norm against the fused one


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_deferred_inputs_and_gradients_count_as_what_they_stand_for(name, training, deferred):
    layer = LAYERS[name](SHAPE[1]).train(training)
    twin = copy.deepcopy(layer)
    x, grad = torch.randn(SHAPE), torch.randn(SHAPE)
    for _ in range(3):
        for odd, back in ((x, grad), (deferred(x), grad), (x, deferred(grad)), (deferred(x), deferred(grad))):
            close(step(layer, odd, back), step(twin, odd.clone(), back.clone()))
            with torch.no_grad():
                close([layer(odd)], [twin(odd.clone())])
    for got, wanted in zip(layer.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("parameter", ["p1", "weight", "fc1.weight", "bn2.bias"])
@pytest.mark.parametrize("kind", ["AconC", "MetaAconC", "BatchNormAconC2d", "BatchNormMetaAconC2d"])
def test_a_lazily_negated_parameter_counts_as_its_values(kind, parameter):
    layer = getattr(nn, kind)(SHAPE[1])
    owner, _, name = parameter.rpartition(".")
    if parameter not in dict(layer.named_parameters()):
        pytest.skip("no such parameter")
    twin = copy.deepcopy(layer)
    values = getattr(layer.get_submodule(owner), name).detach()
    setattr(layer.get_submodule(owner), name, torch.nn.Parameter(torch._neg_view(values)))
    setattr(twin.get_submodule(owner), name, torch.nn.Parameter(-values))
    x, grad = torch.randn(SHAPE), torch.randn(SHAPE)
    order = [n for n, _ in twin.named_parameters()]
    assert [n for n, _ in layer.named_parameters()] == order
    for _ in range(3):
        close(step(layer, x, grad), step(twin, x, grad))


def test_a_function_of_a_lazily_negated_parameter():
    x, p1, p2, beta = torch.randn(SHAPE), *(torch.randn(SHAPE[1]) for _ in range(3))
    for _ in range(3):
        torch.testing.assert_close(acon_c(x, torch._neg_view(p1), p2, beta), acon_c(x, -p1, p2, beta))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_on_the_cpu_run_under_another_default_device(name, on_meta):
    torch.manual_seed(0)
    layer = LAYERS[name](SHAPE[1], device="cpu")
    x, grad = torch.randn(SHAPE, device="cpu"), torch.randn(SHAPE, device="cpu")
    twin = copy.deepcopy(layer)
    found = [step(layer, x, grad) for _ in range(3)]
    torch.set_default_device(None)
    for got in found:
        close(got, step(twin, x, grad))


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("init", ["paper", "swish", "near-swish"])
@pytest.mark.parametrize("kind", ["AconB", "AconC", "MetaAconC", "BatchNormAconC2d", "Maxout"])
def test_parameters_are_made_on_the_default_device_unless_another_is_named(kind, init, device, on_meta):
    layer = getattr(nn, kind)(SHAPE[1], init=init, device=device)
    assert {p.device.type for p in layer.parameters()} == {device or "meta"}


def test_a_layer_starts_as_another_activation_under_another_default_device(on_meta):
    gelu = nn.from_activation(torch.nn.GELU())
    match = nn.from_activation(torch.nn.SiLU())
    assert nn.AconC(8, init=gelu).p1.is_meta
    assert nn.AconB(8, init=match).p2.is_meta
    assert nn.MetaAconC(8, init=match, beta_scale=2.0).p1.is_meta
    assert nn.AconC(8, init=match, device="cpu").beta.tolist() == [1.0] * 8
    assert nn.AconC(device="cpu").materialise(8).p1.device.type == "cpu"


def test_a_named_device_draws_what_no_device_draws():
    torch.manual_seed(5)
    free = nn.AconC(8)
    torch.manual_seed(5)
    named = nn.AconC(8, device="cpu")
    torch.testing.assert_close(named.p1, free.p1, rtol=0, atol=0)
