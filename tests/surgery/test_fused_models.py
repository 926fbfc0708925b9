"""A fused model computes, learns and keeps statistics as the unfused one does."""

import copy

import pytest
import torch
from torch import nn

import aconite.models
from aconite.kernels import native_library
from aconite.surgery import fuse

NETWORKS = [
    ("resnet8", "relu"),
    ("resnet8", "silu"),
    ("resnet8", "swish"),
    ("resnet8", "acon-b"),
    ("resnet8", "acon-c"),
    ("resnet8", "meta-acon"),
    ("shufflenetv2_x0_5", "relu"),
    ("shufflenetv2_x0_5", "acon-c"),
    ("shufflenetv2_x0_5", "meta-acon"),
]


def network(name, activation, **options):
    torch.manual_seed(0)
    model = aconite.models.create(name, activation=activation, num_classes=5, stem="small", **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and shifts that a mistake would show in
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model


def images(memory_format=torch.contiguous_format):
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(1)).to(memory_format=memory_format)


def step(model, x):
    """Outputs, and the gradients of all parameters and of the input."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = model(x)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    model.zero_grad()
    (y.float() * weights).sum().backward()
    return {"y": y, "x": x.grad, **{name: p.grad for name, p in model.named_parameters()}}


def assert_same(model, fused, x):
    """The fused model is about as close to float64 as the unfused one; measured: up to 7 times its error, mostly 1."""
    if any(isinstance(module, nn.ReLU) for module in model.modules()):
        # A pre-activation of 1e-7 has either sign in float32, and ReLU's gradient jumps there.
        model, fused, x = model.double(), fused.double(), x.double()
    truth = step(copy.deepcopy(model).double(), x.double())
    expected, found = step(model, x), step(fused, x)
    assert found.keys() == truth.keys()
    # A bias before a BatchNorm has a gradient of terms that cancel: its error is of the others' size.
    largest = max(float(value.detach().abs().max()) for name, value in truth.items() if name != "y")
    for name, value in truth.items():
        value = value.detach()
        size, error = float(value.abs().max()), float((expected[name].detach() - value).abs().max())
        assert float((found[name].detach() - value).abs().max()) < 20 * error + 2e-5 * size + 2e-6 * largest, name
    buffers = dict(fused.named_buffers())
    for name, value in model.named_buffers():
        assert torch.allclose(buffers[name], value, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize(("name", "activation"), NETWORKS)
def test_training_step(name, activation):
    model = network(name, activation)
    fused, changes = fuse(model, images())
    assert any(row.action == "fused" for row in changes)
    assert not any(row.action == "left" for row in changes)
    assert_same(model, fused, images())


@pytest.mark.parametrize("activation", ["relu", "acon-c", "meta-acon"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mode", ["training", "evaluation", "frozen norms"])
def test_modes_and_layouts(activation, memory_format, mode):
    model = network("resnet8", activation).to(memory_format=memory_format).train(mode != "evaluation")
    if mode == "frozen norms":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    x = images(memory_format)
    fused, _ = fuse(model, x)
    assert [m.training for m in fused.modules()] == [m.training for m in model.modules()]
    assert_same(model, fused, x)


@pytest.mark.skipif(not native_library().available, reason="the fused kernel is native")
@pytest.mark.parametrize("activation", ["relu", "silu", "acon-c", "meta-acon"])
def test_only_the_norms_input_is_kept(activation):
    def kept(m):
        found = {}
        pack = torch.autograd.graph.saved_tensors_hooks(lambda t: found.setdefault(t.data_ptr(), t), lambda t: t)
        with pack:
            m(x)
        return sum(t.shape == x.shape for t in found.values())

    x = torch.randn(4, 8, 5, 6)
    model = nn.Sequential(nn.BatchNorm2d(8), aconite.activation(activation, 8))
    assert (kept(fuse(model, x)[0]), kept(model)) == (1, 2)


def test_which_pairs_the_networks_have():
    _, changes = fuse(network("resnet8", "acon-c"), images())
    assert changes.summary == "7 BatchNorms: 4 fused, 3 norm through kernel"
    assert {row.norm for row in changes if row.action != "fused"} == {f"stages.{n}.0.conv2.norm" for n in range(3)}
    _, changes = fuse(network("shufflenetv2_x0_5", "meta-acon"), images())
    assert changes.summary == "56 BatchNorms: 37 fused, 19 norm through kernel"


def test_norms_and_options_of_every_kind():
    norms = (
        nn.BatchNorm2d(8, affine=False),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.BatchNorm2d(8, momentum=None, eps=1e-2),
        nn.BatchNorm2d(8, momentum=0.3),
    )
    model = nn.Sequential(*(module for norm in norms for module in (norm, aconite.AconC(8, init="swish"))))
    x = torch.randn(4, 8, 5, 6)
    for training in (True, False):
        fused, _ = fuse(model.train(training), x)
        assert_same(model, fused, x)
        assert_same(model, fused, x)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 7), (3, 8, 2, 3, 5)])
def test_one_and_three_dimensions(shape):
    kind = nn.BatchNorm3d if len(shape) == 5 else nn.BatchNorm1d
    for activation in (aconite.AconC(8), aconite.MetaAconC(8), nn.ReLU(inplace=True)):
        model = nn.Sequential(kind(8), activation)
        fused, _ = fuse(model, torch.randn(shape))
        assert_same(model, fused, torch.randn(shape))


def test_shared_norms_and_activations():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.act = nn.BatchNorm2d(8), nn.BatchNorm2d(8), aconite.MetaAconC(8)

        def forward(self, x):
            x = self.act(self.first(x)) + x
            return self.act(self.second(self.act(self.first(x))))

    model = Twice()
    fused, changes = fuse(model, torch.randn(4, 8, 5, 6))
    assert [row.action for row in changes] == ["fused", "fused"]
    assert_same(model, fused, torch.randn(4, 8, 5, 6))


def test_autocast():
    model = network("resnet8", "acon-c")
    fused, _ = fuse(model, images())
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = step(model, images()), step(fused, images())
    assert found["y"].dtype == expected["y"].dtype
    for name in ("y", "stem.act.beta", "classifier.weight"):
        scale = float(expected[name].detach().abs().max())
        assert torch.allclose(found[name].float(), expected[name].float(), rtol=0, atol=0.06 * scale), name


@pytest.mark.parametrize("activation", ["relu", "acon-c", "meta-acon"])
def test_compile(activation):
    layer = aconite.activation(activation, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), layer, nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    fused, _ = fuse(model, images())
    fused.compile(backend="aot_eager")
    for training in (True, False):
        assert_same(model.train(training), fused.train(training), images())


def test_torchvision():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18(num_classes=5)
    x = torch.randn(2, 3, 64, 64)
    fused, changes = fuse(model, x)
    rows = {row.norm: row for row in changes}
    assert rows["bn1"].action == "fused"
    # torchvision's blocks call one ReLU twice, the second time after the sum.
    assert rows["layer1.0.bn1"].reason == "layer1.0.relu is also called where no norm can be fused with it"
    assert_same(model, fused, x)
