"""The fused layers against BatchNorm followed by the activation: results, gradients, buffers, state dicts."""

import copy

import pytest
import torch
from torch import nn

from aconite import kernels
from aconite.nn import AconA, AconB, AconC, MetaAconC, norm_fusion
from aconite.nn.norm_acon import (
    BatchNormAconC1d,
    BatchNormAconC2d,
    BatchNormAconC3d,
    BatchNormMetaAconC2d,
    norm_activation,
)

native = pytest.param(
    True, marks=pytest.mark.skipif(not kernels.native_library().available, reason="no native library")
)
ACTIVATIONS = {
    "acon-a": lambda: AconA(8),
    "acon-b": lambda: AconB(8),
    "acon-c": lambda: AconC(8),
    "hard": lambda: AconC(8, gate="hard"),
    "meta": lambda: MetaAconC(8, 4),
    "meta, no norm": lambda: MetaAconC(8, 4, norm=None, beta_scale=2.0),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "none": lambda: None,
    "gelu": nn.GELU,  # no kernel
}
NORMS = {
    "default": {},
    "cumulative": {"momentum": None},
    "not affine": {"affine": False},
    "untracked": {"track_running_stats": False},
    "eps": {"eps": 0.1, "momentum": 0.5},
}


@pytest.fixture(params=[native, False], ids=["native", "modules"], autouse=True)
def with_kernel(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(norm_fusion, "norm_kernel_serves", lambda *_, **__: False)
    return request.param


def same(found, expected, **tolerance):
    torch.testing.assert_close(found, expected, **{"atol": 2e-4, "rtol": 1e-3, **tolerance})


@pytest.mark.parametrize("training", [True, False], ids=["train", "frozen"])
@pytest.mark.parametrize("options", NORMS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_like_the_pair(name, options, training):
    torch.manual_seed(0)
    act, norm = ACTIVATIONS[name](), nn.BatchNorm2d(8, **NORMS[options]).train(training)
    act2, norm2 = copy.deepcopy((act, norm))
    x = torch.randn(6, 8, 5, 9) * 2 + torch.randn(6, 8, 1, 1)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    for _ in range(2):
        y, z = norm_activation(a, norm, act), norm2(b)
        z = z if act2 is None else act2(z)
        same(y, z)
        grad = torch.randn(x.shape)
        y.backward(grad)
        z.backward(grad)
    same(a.grad, b.grad)
    for one, two in ((norm, norm2), (act, act2)):
        if one is not None:
            same(one.state_dict(), two.state_dict())
            for p, q in zip(one.parameters(), two.parameters(), strict=True):
                same(p.grad, q.grad, atol=5e-3)


def test_layers_are_the_pair_with_its_names():
    torch.manual_seed(0)
    layer = BatchNormAconC2d(8, eps=1e-3, momentum=0.2)
    norm, act = nn.BatchNorm2d(8, eps=1e-3, momentum=0.2), AconC(8)
    act.load_state_dict({k: v for k, v in layer.state_dict().items() if k in act.state_dict()})
    assert set(layer.state_dict()) == {*norm.state_dict(), *act.state_dict()}
    x = torch.randn(4, 8, 6, 6)
    same(layer(x), act(norm(x)))
    same(layer.running_var, norm.running_var)

    meta = BatchNormMetaAconC2d(8, r=4)
    inner, norm = MetaAconC(8, 4), nn.BatchNorm2d(8)
    inner.load_state_dict({k: v for k, v in meta.state_dict().items() if k in inner.state_dict()})
    assert set(meta.state_dict()) == {*norm.state_dict(), *inner.state_dict()}
    for _ in range(2):
        same(meta(x), inner(norm(x)))
    same(meta.bn2.running_mean, inner.bn2.running_mean)
    same(meta.eval()(x), inner.eval()(norm.eval()(x)))


@pytest.mark.parametrize(("kind", "shape"), [(BatchNormAconC1d, (9, 4)), (BatchNormAconC1d, (3, 4, 7)),
                                             (BatchNormAconC3d, (2, 4, 3, 5, 2))])  # fmt: skip
def test_other_ranks(kind, shape):
    layer = kind(4, init="swish")
    norm = kind.__mro__[2](4)
    x = torch.randn(shape)
    same(layer(x), nn.functional.silu(norm(x)))
    with pytest.raises(ValueError, match="expected"):
        layer(torch.randn(2, 4, 2, 2))


def test_torch_says_what_is_wrong():
    norm = nn.BatchNorm2d(4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_activation(torch.randn(1, 4, 1, 1), norm, AconC(4))
    with pytest.raises(ValueError, match="4D"):
        norm_activation(torch.randn(3, 4), norm, AconC(4))
    with pytest.raises(RuntimeError):
        norm_activation(torch.randn(3, 5, 2, 2), norm, nn.ReLU())
    assert norm_activation(torch.randn(1, 4, 1, 1), norm.eval(), AconC(4)).shape == (1, 4, 1, 1)
    assert norm_activation(torch.randn(2, 4, 3, 3), norm, AconC()).shape == (2, 4, 3, 3)  # lazy


def test_hooks_run():
    seen = []
    norm, act = nn.BatchNorm2d(4), AconC(4)
    norm.register_forward_hook(lambda *_: seen.append("norm"))
    norm_activation(torch.randn(2, 4, 3, 3), norm, act)
    assert seen == ["norm"]
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype):
    torch.manual_seed(0)
    layer = BatchNormAconC2d(8)
    x = torch.randn(4, 8, 6, 6)
    expected = copy.deepcopy(layer)(x)
    if dtype is torch.float64:
        layer = layer.double()
    y = layer(x.to(dtype))  # half inputs with float32 parameters, as under autocast
    assert y.dtype is dtype
    same(y.float(), expected, atol=3e-2, rtol=3e-2)


def test_published_shapes_load():
    layer = BatchNormMetaAconC2d(8, r=4)
    state = layer.state_dict()
    state["p1"], state["fc1.weight"] = torch.ones(1, 8, 1, 1), torch.ones(4, 8)
    layer.load_state_dict(state)
    assert layer.p1.shape == (8,)
    assert layer.fc1.weight.shape == (4, 8, 1, 1)


def test_copies_and_compiles():
    torch.manual_seed(0)
    for layer in (BatchNormAconC2d(8), BatchNormMetaAconC2d(8, r=4)):
        other = copy.deepcopy(layer)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        x = torch.randn(4, 8, 5, 5)
        a, b = (x.clone().requires_grad_() for _ in range(2))
        y, z = compiled(a), other(b)
        same(y, z)
        y.square().sum().backward()
        z.square().sum().backward()
        same(a.grad, b.grad)
        same(layer.state_dict(), other.state_dict())


def test_transforms():
    torch.manual_seed(0)
    norm, act = nn.BatchNorm2d(4).eval(), AconC(4)
    x = torch.randn(2, 4, 3, 3)
    leaf = x.clone().requires_grad_()
    norm_activation(leaf, norm, act).sum().backward()
    same(torch.func.grad(lambda t: norm_activation(t, norm, act).sum())(x), leaf.grad)
