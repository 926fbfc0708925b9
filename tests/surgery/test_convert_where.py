"""What is chosen, what it becomes, and what is said where it cannot be."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import aconite
from aconite.errors import SettingsError, UnknownNameError
from aconite.surgery import convert


class Bottleneck(nn.Module):
    """Narrow inside, with squeeze-and-excitation, as in SE-ResNets."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 16, 1)
        self.act1, self.act2, self.act3, self.inner = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.down, self.up = nn.Linear(16, 2), nn.Linear(2, 16)

    def forward(self, x):
        y = self.conv3(self.act2(self.conv2(self.act1(self.conv1(x)))))
        scale = torch.sigmoid(self.up(self.inner(self.down(y.mean((2, 3))))))
        return self.act3(y * scale[:, :, None, None] + x)


class Network(nn.Module):
    def __init__(self, block=Bottleneck):
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 16, 3), nn.SiLU()
        self.layers = nn.Sequential(block(), block())
        self.head = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 5))

    def forward(self, x):
        x = self.layers(self.act(self.stem(x)))
        return self.head(F.hardswish(x.mean((2, 3))))


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SITES = [
    "act",
    *(f"layers.{n}.{name}" for n in (0, 1) for name in ("act1", "act2", "inner", "act3")),
    "",  # the call of hardswish
    "head.1",
]


def chosen(where, model=None, **options):
    _, changes = convert(model or Network(), example_inputs=X, where=where, **options)
    assert [row.site for row in changes] == SITES
    left = [row for row in changes if row.now is None]
    assert all(row.reason == "not among where=" for row in left)
    return [row.site for row in changes if row.now]


WHERE = {
    "everything": ("all", SITES),
    "paper": ("paper", ["layers.0.act2", "layers.1.act2"]),
    "backbone": ("backbone", [name for name in SITES if name not in ("", "head.1") and "inner" not in name]),
    "pattern": ("layers.1.*", SITES[5:9]),
    "patterns": (["*.act1", "head.?"], ["layers.0.act1", "layers.1.act1", "head.1"]),
    "activation class": (nn.SiLU, ["act"]),
    "activation class of a function": (nn.Hardswish, [""]),
    "class of the caller": (Bottleneck, SITES[1:9]),
    "classes": ((nn.SiLU, nn.GELU), ["act", "head.1"]),
    "predicate": (lambda site: site.channels == 4, [f"layers.{n}.{name}" for n in (0, 1) for name in ("act1", "act2")]),
    "predicate on the kernel": (lambda site: site.kernel == (3, 3), ["act", "layers.0.act2", "layers.1.act2"]),
    "position": (0, ["act"]),
    "from the end": (-1, ["head.1"]),
    "slice": (slice(1, 5), SITES[1:5]),
    "mixed": ([0, "head.*", nn.Hardswish], ["act", "", "head.1"]),
}


@pytest.mark.parametrize("name", WHERE)
def test_where(name):
    where, expected = WHERE[name]
    assert chosen(where) == expected


def test_paper_without_bottlenecks_means_all_of_the_backbone():
    class Wide(Bottleneck):  # an inverted bottleneck: wider inside
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.conv3 = (
                nn.Conv2d(16, 32, 1),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.Conv2d(32, 16, 1),
            )

    assert chosen("paper", Network(Wide)) == chosen("backbone", Network(Wide))


def test_backbone_is_the_child_of_that_name():
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
            self.tower = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())

        def forward(self, x):
            return self.tower(self.backbone(x))

    _, changes = convert(Detector(), example_inputs=X, where="backbone")
    assert [row.now for row in changes] == ["AconC", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": True}, "where=True: expected 'all', 'paper', 'backbone', a pattern"),
        ({"where": 1.5}, "where=1.5"),
        ({"where": "layer9.*"}, r"nothing to convert: .* found act \(SiLU\): not among where=.*; and 8 more"),
        ({"where": []}, "nothing to convert"),
        ({"to": 3}, "to=3: expected a name"),
        ({"to": "meta-acn"}, "did you mean .meta-acon"),
        ({"init": "random"}, "init='random' is not known"),
        ({"tolerance": 0}, "tolerance=0: expected a positive number"),
        ({"rr": 8}, "does not take these options"),
        ({"to": "silu", "where": nn.SiLU}, "is SiLU already"),
        ({"to": "frelu", "where": "head.*"}, r"neighbouring pixels, and the input here is \(2, 8\)"),
        ({"to": lambda c: "relu"}, "made a str, expected a torch.nn.Module"),
        ({"to": aconite.AconC(8)}, "one layer, .* expected a name"),
        ({"to": nn.PReLU, "init": "paper"}, "init='paper' is for names"),
        ({"to": "meta-acon-layer"}, "generator"),
        ({"example_inputs": 3}, "example_inputs is a int"),
        ({"example_inputs": torch.zeros(1, 5)}, "does not run on the example inputs"),
    ],
)
def test_errors(options, message):
    with pytest.raises((SettingsError, UnknownNameError), match=message):
        convert(Network(), **{"example_inputs": X, **options})


def test_a_model_without_activations():
    with pytest.raises(SettingsError, match=r"no call of an activation could be replaced$"):
        convert(nn.Linear(3, 4), example_inputs=torch.zeros(2, 3))


def test_printed():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 2, 1), nn.ReLU())
    converted, changes = convert(model.eval(), example_inputs=X, where=nn.SiLU)
    head, first, second, summary = str(changes).splitlines()
    assert head.split() == ["site", "call", "was", "now", "channels", "channel_dim", "deviation", "reason"]
    assert first.split()[:5] == ["1", "SiLU", "AconC", "4", "1"]
    assert second.split() == ["3", "ReLU", "2", "1", "not", "among", "where="]
    assert summary.startswith("2 call sites: 1 converted, 1 left; the output moved by at most ")
    measured = (converted(X) - model(X)).abs().max().item()
    assert changes.output_deviation == pytest.approx(measured, abs=1e-9)
    assert changes.output_scale == pytest.approx(model(X).abs().max().item())


@pytest.mark.parametrize("name", sorted(aconite.activations().keys() - {"leaky-relu"}))
def test_every_name(name):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 1), nn.Softsign())
    init = "swish" if name.startswith("meta-acon-") else "match"
    converted, _ = convert(model, name, example_inputs=X, init=init)
    assert type(converted[1]) is type(aconite.activation(name, 8))
    converted(X).sum().backward()


def test_the_form_of_a_match():
    def layer(module, to, **options):
        converted, changes = convert(nn.Sequential(nn.Conv2d(3, 2, 1), module), to, example_inputs=X, **options)
        return converted[1], changes.rows[0].deviation

    beta = 0.2784645  # max u·σ(−u)
    leaky = nn.LeakyReLU(0.25)
    acon, deviation = layer(leaky, "acon-c", tolerance=0.02)
    assert torch.allclose(torch.stack([acon.p1, acon.p2, acon.beta])[:, 0], torch.tensor([1.0, 0.25, beta / 0.02]))
    assert deviation <= 0.021
    acon, deviation = layer(nn.ReLU(), aconite.AconA, tolerance=0.02)
    assert torch.allclose(acon.beta, torch.full((2,), beta / 0.02))
    assert deviation <= 0.021
    acon, _ = layer(leaky, "acon-b", tolerance=0.02)
    assert torch.allclose(acon.p2, torch.full((2,), 0.25))
    prelu, deviation = layer(leaky, "prelu")
    assert torch.allclose(prelu.weight, torch.full((2,), 0.25))
    assert deviation == 0
    weights = nn.PReLU(2)
    with torch.no_grad():
        weights.weight.copy_(torch.tensor([0.5, 1.5]))
    acon, deviation = layer(weights, "acon-c")
    assert torch.allclose(acon.p2, torch.tensor([0.5, 1.5]))
    assert acon.beta[0] > 0 > acon.beta[1]
    with pytest.raises(SettingsError, match="a negative β"):
        layer(weights, "meta-acon")
    meta, deviation = layer(nn.ReLU(), "meta-acon", tolerance=0.02, r=4)
    assert meta.r == 4
    assert torch.allclose(meta.generate_beta(torch.randn(3, 2, 5, 5)), torch.full((3, 2), beta / 0.02))
    assert meta.bn2.weight.abs().max() == 0
    assert deviation <= 0.021
    _, deviation = layer(nn.Hardswish(), "acon-c", gate="hard")
    assert deviation < 1e-6


@pytest.mark.parametrize("init", ["paper", "swish", "near-swish"])
def test_from_scratch(init):
    torch.manual_seed(1)
    converted, _ = convert(Network(), example_inputs=X, init=init)
    values = torch.cat([module.p1 for module in converted.modules() if isinstance(module, aconite.AconC)]).detach()
    mean, std = {"paper": (0, 1), "swish": (1, 0), "near-swish": (1, 0.1)}[init]
    assert values.mean().item() == pytest.approx(mean, abs=0.35)
    assert values.std().item() == pytest.approx(std, abs=0.2)


def test_factories():
    made = []

    def factory(channels, channel_dim=1):
        made.append((channels, channel_dim))
        return aconite.AconC(channels, channel_dim=channel_dim, init="swish")

    tokens = nn.Sequential(nn.Linear(8, 6), nn.GELU())
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), tokens)
    convert(model, factory, example_inputs=X)
    assert made == [(4, 1), (6, -1)]
    _, changes = convert(model, lambda channels: nn.Softplus(), example_inputs=X)
    assert [row.now for row in changes] == ["Softplus", None]
    assert "does not take (6, channel_dim=-1)" in changes.rows[1].reason


def test_other_activations_on_request():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), nn.Conv2d(4, 4, 1), nn.ReLU())
    converted, changes = convert(model, example_inputs=X, where=nn.Tanh)
    assert type(converted[1]) is aconite.AconC
    assert changes.rows[0].deviation > 0.1  # the best fit is not good


def test_one_that_cannot_be_matched_is_left_with_the_reason():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), aconite.MetaAconC(4), nn.Conv2d(4, 4, 1), nn.ReLU())
    _, changes = convert(model, example_inputs=X)
    assert "not an elementwise activation" in changes.rows[0].reason
    _, changes = convert(model, example_inputs=X, init="swish")
    assert [row.now for row in changes] == ["AconC", "AconC"]


def test_converted_twice():
    once, _ = convert(Network(), example_inputs=X)
    twice, changes = convert(once, "meta-acon", example_inputs=X)
    assert [row.site for row in changes if row.now] == [
        name for name in SITES if name and "inner" not in name and name != "head.1"
    ]
    assert all(row.was == "AconC" for row in changes)
    back, _ = aconite.surgery.deconvert(twice)
    assert {name: type(m) for name, m in back.named_modules()} == {
        name: type(m) for name, m in Network().named_modules()
    }
