"""torch.compile, torch.func, autocast and deepcopy on the layers: the values, not only that they run."""

import copy

import pytest
import torch
from torch import nn

import aconite

LEARNT = [
    "prelu",
    "maxout",
    "frelu",
    "se-relu",
    "swish",
    "acon-b",
    "acon-c",
    "meta-acon",
    "meta-acon-layer",
    "meta-acon-pixel",
    "acon-frelu",
]


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(4, 6, 5, 3)


@pytest.mark.parametrize("name", LEARNT)
def test_compile_to_one_graph(name, x):
    torch.compiler.reset()
    layer, x = aconite.activation(name, 6).double(), x.double()
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="eager")
    y, z = layer(x), compiled(x)
    torch.testing.assert_close(z, y)
    grad = torch.randn_like(y)
    y.backward(grad), z.backward(grad)
    for ours, theirs in zip(compiled.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", LEARNT)
def test_func_grad_and_vmap(name, x):
    layer = aconite.activation(name, 6).eval()
    parameters = {k: v.detach() for k, v in layer.named_parameters()}
    weight = torch.randn(6, 5, 3)

    def loss(parameters, sample):
        y = torch.func.functional_call(layer, parameters, (sample[None],))
        return (y * weight).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for i in range(len(x)):
        layer.zero_grad()
        (layer(x[i : i + 1]) * weight).sum().backward()
        for key, p in layer.named_parameters():
            torch.testing.assert_close(per_sample[key][i], p.grad, rtol=1e-4, atol=1e-5)
    _, tangent = torch.func.jvp(lambda t: loss(parameters, t), (x[0],), (torch.ones_like(x[0]),))
    gradient = torch.func.grad(loss, 1)(parameters, x[0])
    torch.testing.assert_close(tangent, gradient.sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LEARNT)
def test_ensemble(name, x):
    layers = [aconite.activation(name, 6).eval() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(layers)

    def call(p, b, t):
        return torch.func.functional_call(layers[0], (p, b), (t,))

    stacked = torch.func.vmap(call, (0, 0, None))(parameters, buffers, x)
    torch.testing.assert_close(stacked, torch.stack([layer(x) for layer in layers]))


@pytest.mark.parametrize("name", LEARNT)
def test_autocast(name, x):
    model = nn.Sequential(nn.Conv2d(6, 6, 1), aconite.activation(name, 6)).eval()
    truth = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model[0](x)
        y = model[1](hidden)
        assert hidden.dtype == torch.bfloat16
        assert y.dtype == torch.bfloat16
        assert model[1](x).dtype == torch.float32
    assert float((y - truth).abs().max()) <= 0.05 * float(truth.abs().max()) + 0.05
    y.float().square().sum().backward()
    for p in model.parameters():
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()


@pytest.mark.parametrize("name", LEARNT)
def test_no_grad_and_inference_mode(name, x):
    layer = aconite.activation(name, 6).eval()
    y = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), y)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), y)
    layer(x).sum().backward()


def test_double_backward(x):
    layer = aconite.activation("meta-acon", 6)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert layer.p1.grad.abs().sum() > 0
