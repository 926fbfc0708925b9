"""State dicts of the public variants, each re-written here as a small module from its published formula."""

import copy
import re

import pytest
import torch
from torch import nn

import aconite
from aconite import nn as ann
from aconite.errors import StateDictError
from aconite.nn import MetaAconC


class PublishedAconC(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.p1 = nn.Parameter(torch.randn(1, width, 1, 1))
        self.p2 = nn.Parameter(torch.randn(1, width, 1, 1))
        self.beta = nn.Parameter(1 + torch.randn(1, width, 1, 1))

    def forward(self, x):
        distance = (self.p1 - self.p2) * x
        return distance * torch.sigmoid(self.beta * distance) + self.p2 * x


class PublishedMeta(nn.Module):
    """``norms`` and ``bias`` tell the variants apart: reference (both), first (neither), YOLOv5 (bias alone)."""

    def __init__(self, width, hidden, norms, bias):
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1, bias=bias)
        self.fc2 = nn.Conv2d(hidden, width, 1, bias=bias)
        if norms:
            self.bn1, self.bn2 = nn.BatchNorm2d(hidden), nn.BatchNorm2d(width)
            for norm in (self.bn1, self.bn2):
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
        self.norms = norms
        self.p1 = nn.Parameter(torch.randn(1, width, 1, 1))
        self.p2 = nn.Parameter(torch.randn(1, width, 1, 1))

    def forward(self, x):
        y = self.fc1(x.mean(2, keepdim=True).mean(3, keepdim=True))
        y = self.fc2(self.bn1(y) if self.norms else y)
        beta = torch.sigmoid(self.bn2(y) if self.norms else y)
        distance = (self.p1 - self.p2) * x
        return distance * torch.sigmoid(beta * distance) + self.p2 * x


VARIANTS = {
    "reference": (lambda c: PublishedMeta(c, max(16, c // 16), True, True), lambda c: {}),
    "first": (
        lambda c: PublishedMeta(c, c // 16, False, False),
        lambda c: {"hidden": c // 16, "bias": False, "norm": None},
    ),
    "yolov5": (lambda c: PublishedMeta(c, max(16, c // 16), False, True), lambda c: {"norm": None}),
}


def assert_same_function(ours, theirs, channels):
    ours.double(), theirs.double()
    x = torch.randn(4, channels, 5, 3, dtype=torch.float64, requires_grad=True)
    for train in (True, False):
        a, b = ours.train(train)(x), theirs.train(train)(x)
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(torch.autograd.grad(a.square().sum(), x), torch.autograd.grad(b.square().sum(), x))
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)


@pytest.mark.parametrize("lazy", [False, True])
def test_acon_c(lazy):
    theirs = PublishedAconC(8)
    ours = ann.AconC(None if lazy else 8)
    sent = theirs.state_dict()
    ours.load_state_dict(sent)
    assert sent["p1"].shape == (1, 8, 1, 1)  # the caller's dictionary is not touched
    assert ours.p1.shape == (8,)
    assert_same_function(ours, theirs, 8)
    back = aconite.published_state_dict(ours)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in sent.items()}
    theirs.load_state_dict(back)


@pytest.mark.parametrize("channels", [16, 64, 512])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("how", ["built", "lazy", "from_state_dict"])
def test_meta_acon_c(variant, how, channels):
    torch.manual_seed(0)
    make, options = VARIANTS[variant]
    theirs, options = make(channels), options(channels)
    if how == "from_state_dict":
        ours = MetaAconC.from_state_dict(theirs.state_dict())
    else:
        ours = MetaAconC(channels if how == "built" else None, **options)
        ours.load_state_dict(theirs.state_dict())
    assert_same_function(ours, theirs, channels)
    theirs.load_state_dict(aconite.published_state_dict(ours))
    assert_same_function(ours, theirs, channels)


def test_a_network_with_one_import_replaced():
    torch.manual_seed(0)

    def network(acon, meta):
        return nn.Sequential(nn.Conv2d(3, 16, 3), acon(16), nn.Sequential(nn.Conv2d(16, 64, 1), meta(64)))

    theirs = network(PublishedAconC, lambda c: PublishedMeta(c, 16, True, True))
    ours = network(ann.AconC, MetaAconC)
    ours.load_state_dict(theirs.state_dict())
    assert_same_function(ours, theirs, 3)
    published = aconite.published_state_dict(ours)
    assert list(published) == list(ours.state_dict())
    theirs.load_state_dict(published)
    again = network(ann.AconC, MetaAconC)
    again.load_state_dict(ours.state_dict())
    assert_same_function(again, theirs, 3)
    built = MetaAconC.from_state_dict(theirs.state_dict(), prefix="2.1.")
    assert torch.equal(built.p1, ours[2][1].p1.float())


def test_shared_layers_are_published_under_each_name():
    layer = ann.AconC(4)
    model = nn.ModuleDict({"one": layer, "two": layer})
    assert {v.shape for v in aconite.published_state_dict(model).values()} == {(1, 4, 1, 1)}


def test_other_parameters_of_that_name_stay_as_they_are():
    model = nn.Module()
    model.beta, model.act = nn.Parameter(torch.ones(3)), ann.AconC(3)
    published = aconite.published_state_dict(model)
    assert published["beta"].shape == (3,)
    assert published["act.beta"].shape == (1, 3, 1, 1)


@pytest.mark.parametrize("lazy", [False, True])
def test_matrices_are_accepted_for_fc(lazy):
    layer = MetaAconC(32)
    state = {k: v.flatten(1) if v.ndim == 4 else v for k, v in layer.state_dict().items()}
    again = MetaAconC(None if lazy else 32)
    again.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), again.state_dict().values(), strict=True))
    nested = nn.Sequential(MetaAconC(32))
    nested.load_state_dict({f"0.{k}": v for k, v in state.items()})
    assert torch.equal(nested[0].fc1.weight, layer.fc1.weight)


@pytest.mark.parametrize("channels", [32, 64, 512])
@pytest.mark.parametrize("theirs", VARIANTS)
@pytest.mark.parametrize("mine", VARIANTS)
def test_another_variant_prints_the_call_that_fits(mine, theirs, channels):
    if mine == theirs:
        return
    state = VARIANTS[theirs][0](channels).state_dict()
    layer = MetaAconC(channels, **VARIANTS[mine][1](channels), gate="hard", beta_scale=2.0)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(StateDictError) as caught:
        layer.load_state_dict(state)
    message = str(caught.value)
    assert "\n" not in message
    call = re.search(r"build (MetaAconC\(.*?\)), or ", message)[1]
    fitting = eval(call)
    fitting.load_state_dict(state)
    assert (fitting.gate, fitting.beta_scale) == ("hard", 2.0)
    assert eval(
        re.search(r"or (MetaAconC\.from_state_dict\(.*\))$", message)[1], {"MetaAconC": MetaAconC, "state_dict": state}
    )
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_the_call_names_the_prefix():
    state = {f"0.act.{k}": v for k, v in VARIANTS["yolov5"][0](32).state_dict().items()}
    model = nn.Sequential(nn.ModuleDict({"act": MetaAconC(32)}))
    with pytest.raises(StateDictError, match=r"from_state_dict\(state_dict, prefix='0\.act\.'\)"):
        model.load_state_dict(state)


def test_from_state_dict_takes_options():
    layer = MetaAconC(32, norm=None, channel_dim=-1)
    again = MetaAconC.from_state_dict(layer.state_dict(), channel_dim=-1, beta_scale=3.0, dtype=torch.float64)
    assert (again.channel_dim, again.beta_scale, again.p1.dtype) == (-1, 3.0, torch.float64)
    for granularity in ("layer", "pixel"):
        state = MetaAconC(8, granularity=granularity).state_dict()
        assert MetaAconC.from_state_dict(state, granularity=granularity).granularity == granularity
        with pytest.raises(StateDictError, match="granularity='layer' or granularity='pixel'"):
            MetaAconC.from_state_dict(state)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "p1, p2 missing, found nothing"),
        ({"weight": torch.ones(3)}, "found weight"),
        (ann.AconC(8).state_dict(), "it holds beta"),
    ],
)
def test_foreign_state_dicts(state, words):
    with pytest.raises(StateDictError) as caught:
        MetaAconC.from_state_dict(state)
    assert words in str(caught.value)


def test_strictness_is_torch_s():
    layer = ann.AconC(4)
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({"p1": torch.ones(4)})
    layer.load_state_dict({"p1": torch.ones(1, 4, 1, 1)}, strict=False)
    assert torch.equal(layer.p1, torch.ones(4))
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(ann.AconC(5).state_dict())
    layer.load_state_dict(PublishedAconC(4).state_dict(), assign=True)
    assert layer.p1.shape == (4,)
