"""Layers that learn their channel count from the first input."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from aconite import nn as ann

X = torch.randn(2, 6, 4, 5)
KINDS = {
    "AconA": ann.AconA,
    "AconB": ann.AconB,
    "AconC": ann.AconC,
    "MetaAconC": ann.MetaAconC,
    "MetaAconC norm=None": lambda *c, **k: ann.MetaAconC(*c, norm=None, **k),
    "MetaAconC layer": lambda *c, **k: ann.MetaAconC(*c, granularity="layer", **k),
    "Maxout": ann.Maxout,
    "PReLU": ann.PReLU,
    "FReLU": ann.FReLU,
    "AconFReLU": lambda *c, **k: ann.AconFReLU(*c, stride=2, learn_beta=True, **k),
    "SqueezeExcite": ann.SqueezeExcite,
    "SqueezeExciteReLU": ann.SqueezeExciteReLU,
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


@each_kind
def test_the_first_forward_builds_what_the_constructor_builds(kind):
    torch.manual_seed(0)
    lazy = kind()
    assert lazy.channels is None
    assert all(is_lazy(p) for p in lazy.parameters())
    torch.manual_seed(1)
    y = lazy(X)
    torch.manual_seed(1)
    built = kind(6)
    assert lazy.channels == 6
    assert repr(lazy) == repr(built)
    for (name, ours), theirs in zip(lazy.state_dict().items(), kind(6).state_dict().values(), strict=True):
        assert ours.shape == theirs.shape, name
        assert ours.dtype == theirs.dtype, name
    assert [n for n, _ in lazy.named_parameters()] == [n for n, _ in built.named_parameters()]
    assert torch.equal(y, built(X))
    lazy(X).sum().backward()
    assert all(p.grad is not None for p in lazy.parameters())


@each_kind
@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_before_and_after(kind, how):
    lazy = kind(dtype=torch.float64)
    twin = how(lazy)
    lazy(X.double())
    assert twin.channels is None
    assert all(is_lazy(p) for p in twin.parameters())
    assert twin(X.double()).dtype == torch.float64
    assert {p.dtype for p in twin.parameters()} == {torch.float64}
    after = how(lazy)
    assert torch.equal(after.eval()(X.double()), lazy.eval()(X.double()))
    assert not {id(p) for p in after.parameters()} & {id(p) for p in lazy.parameters()}


@each_kind
def test_state_dicts_before_and_after(kind):
    lazy, other = kind(), kind()
    empty = lazy.state_dict()
    assert list(empty) == list(kind(6).state_dict())
    other.load_state_dict(empty)
    assert other.channels is None
    built = kind(6)
    lazy.load_state_dict(built.state_dict())
    assert lazy.channels == 6
    assert all(torch.equal(a, b) for a, b in zip(lazy.state_dict().values(), built.state_dict().values(), strict=True))
    assert torch.equal(lazy.eval()(X), built.eval()(X))
    nested = nn.Sequential(nn.Conv2d(3, 6, 1), kind())
    nested.load_state_dict(nn.Sequential(nn.Conv2d(3, 6, 1), built).state_dict())
    assert nested[1].channels == 6
    stream = io.BytesIO()
    torch.save(lazy.state_dict(), stream)
    stream.seek(0)
    kind().load_state_dict(torch.load(stream, weights_only=True))


@each_kind
def test_dtype_mode_and_freezing_survive(kind):
    lazy = nn.Sequential(kind()).to(torch.float64).eval().requires_grad_(False)
    parameters = list(lazy.parameters())
    lazy(X.double())
    assert all(a is b for a, b in zip(lazy.parameters(), parameters, strict=True))
    assert {p.dtype for p in parameters} == {torch.float64}
    assert not any(p.requires_grad for p in parameters)
    assert not any(m.training for m in lazy.modules())
    assert all(not b.is_floating_point() or b.dtype == torch.float64 for b in lazy.buffers())
    lazy.requires_grad_(True)
    assert all(p.requires_grad for p in parameters)


@each_kind
@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_built_before_the_first_forward(kind, optimiser):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 6, 1), kind())
    steps = optimiser(ann.param_groups(model, 1e-4), lr=0.1)
    before = list(model.parameters())
    model(X)
    assert all(a is b for a, b in zip(model.parameters(), before, strict=True))
    values = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        steps.zero_grad()
        (model(X) * torch.randn(1, 6, 1, 1)).square().sum().backward()
        steps.step()
    changed = [not torch.equal(a, b) for a, b in zip(model.parameters(), values, strict=True)]
    moved = dict(zip([n for n, _ in model.named_parameters()], changed, strict=True))
    # A shift in front of a BatchNorm has no gradient but rounding.
    shifts = ("conv_frelu.bias", "fc1.bias", "fc2.bias", "bn1.bias")
    assert all(moved[n] for n in moved if not n.endswith(shifts)), moved


@each_kind
def test_a_dry_run_in_inference_mode_leaves_a_trainable_layer(kind):
    lazy = kind()
    with torch.inference_mode():
        lazy(X)
    lazy(X).sum().backward()
    assert all(p.grad is not None for p in lazy.parameters())


@each_kind
def test_built_and_first_run_in_inference_mode(kind):
    with torch.inference_mode():
        lazy = kind()
        lazy(X)
    lazy(X).sum().backward()
    assert all(p.grad is not None for p in lazy.parameters())


@each_kind
def test_torch_load_reads_a_lazy_state_dict(kind):
    stream = io.BytesIO()
    torch.save(kind().state_dict(), stream)
    stream.seek(0)
    other = kind()
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert other.channels is None
    assert other(X).shape[:2] == X.shape[:2]


@each_kind
def test_materialise(kind):
    lazy = kind().materialise(6)
    assert lazy.channels == 6
    assert lazy.materialise(6) is lazy
    lazy(X)


def test_channel_dim_decides():
    assert ann.AconC(channel_dim=-1)(torch.randn(2, 3, 7)).shape == (2, 3, 7)
    layer = ann.MetaAconC(channel_dim=-3)
    layer(torch.randn(5, 3, 4))
    assert layer.channels == 5


def test_values_do_not_depend_on_dtype():
    torch.manual_seed(0)
    a = ann.AconC(dtype=torch.float64)
    a(X.double())
    torch.manual_seed(0)
    b = ann.AconC()
    b(X)
    assert torch.equal(a.p1, b.p1.double())


def test_torch_refuses_what_needs_a_shape():
    lazy = ann.AconC()
    with pytest.raises((RuntimeError, ValueError), match="uninitialized"):
        nn.utils.parameters_to_vector(lazy.parameters())
    with pytest.raises(ann.channels.StateDictError, match="p1 has no shape yet; run the module once"):
        ann.published_state_dict(lazy)


def test_children_stay_themselves():
    lazy = ann.MetaAconC()
    children = dict(lazy.named_children())
    seen = []
    lazy.fc1.register_forward_hook(lambda *a: seen.append(1))
    lazy(X)
    assert dict(lazy.named_children()) == children
    assert seen == [1]
    assert (lazy.fc1.in_channels, lazy.fc1.out_channels, lazy.bn2.num_features) == (6, 16, 6)
    assert lazy.bn1.num_batches_tracked == 1


def test_compiled_before_the_first_forward():
    model = nn.Sequential(nn.Conv2d(6, 6, 1), ann.MetaAconC()).eval()
    torch.testing.assert_close(torch.compile(model, backend="eager")(X), model(X))
