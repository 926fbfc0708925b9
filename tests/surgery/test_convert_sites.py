"""Every way to call an activation becomes a layer of the right width, channel position and values, and nothing else."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import aconite
from aconite.errors import SettingsError
from aconite.surgery import convert

X = torch.randn(3, 4, 6, 5, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    """A convolution and one call of an activation after it."""

    def __init__(self, call):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1)
        self.call = call

    def forward(self, x):
        return self.call(self.conv(x))


def acon_c(x, p1, p2, beta):
    """The equation of the paper's section 3, channels at dimension 1."""
    p1, p2, beta = (v.view(1, -1, *[1] * (x.ndim - 2)) for v in (p1, p2, beta))
    return (p1 - p2) * x * torch.sigmoid(beta * (p1 - p2) * x) + p2 * x


FUNCTIONS = {
    "F.relu": (lambda x: F.relu(x), 0.01),
    "F.relu in place": (lambda x: F.relu(x, inplace=True), 0.01),
    "F.relu_": (lambda x: F.relu_(x), 0.01),
    "torch.relu": (lambda x: torch.relu(x), 0.01),
    "torch.relu_": (lambda x: torch.relu_(x), 0.01),
    "method": (lambda x: x.relu(), 0.01),
    "method in place": (lambda x: x.relu_(), 0.01),
    "by keyword": (lambda x: F.relu(input=x), 0.01),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), 0.01),
    "leaky_relu_": (lambda x: F.leaky_relu_(x, negative_slope=0.3), 0.01),
    "silu": (lambda x: F.silu(x), 1e-6),
    "gelu": (lambda x: F.gelu(x), 0.021),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), 0.021),
    "hardswish": (lambda x: F.hardswish(x), 0.15),
    "elu": (lambda x: F.elu(x), 0.5),
    "elu_": (lambda x: F.elu_(x), 0.5),
    "mish": (lambda x: F.mish(x), 0.11),
    "relu6": (lambda x: F.relu6(x), 1.2),
    "prelu": (lambda x: F.prelu(x, torch.tensor([0.1])), 0.01),
    "torch.prelu": (lambda x: torch.prelu(x, torch.full((8,), 0.1)), 0.01),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    call, tolerance = FUNCTIONS[name]
    model = Calls(call).eval()
    converted, changes = convert(model, example_inputs=X)
    (row,) = changes
    assert (row.site, row.now, row.channels, row.channel_dim) == ("", "AconC", 8, 1)
    assert row.call.endswith("()")
    (layer,) = [m for m in converted.modules() if isinstance(m, aconite.AconC)]
    values = converted.conv(X)
    assert torch.allclose(converted(X), acon_c(values, layer.p1, layer.p2, layer.beta), atol=1e-5)
    measured = (converted(X) - model(X)).abs().max().item()
    assert measured <= tolerance + 1e-6
    assert row.deviation == pytest.approx(measured, rel=0.06, abs=1e-7)
    assert changes.output_deviation == pytest.approx(measured, abs=1e-7)
    assert type(converted) is Calls


MODULES = [
    (nn.ReLU(), 0.01), (nn.ReLU(inplace=True), 0.01), (nn.LeakyReLU(0.2), 0.01), (nn.PReLU(8), 0.01), (nn.SiLU(), 1e-6),
    (nn.GELU(), 0.021), (nn.ELU(), 0.5), (nn.Mish(), 0.11), (nn.Hardswish(), 0.15), (nn.ReLU6(), 1.2),
    (aconite.AconA(8), 1e-6), (aconite.AconB(8), 1e-6), (aconite.nn.Maxout(8), 0.01), (aconite.nn.PReLU(8), 0.01),
]  # fmt: skip


@pytest.mark.parametrize(("module", "tolerance"), MODULES, ids=lambda value: repr(value)[:12])
def test_modules(module, tolerance):
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), module).eval()
    converted, changes = convert(model, example_inputs=X)
    assert type(converted[2]) is aconite.AconC
    assert converted[2].p1.shape == (8,)
    assert (converted(X) - model(X)).abs().max() <= tolerance + 1e-6
    assert changes.rows[0].deviation <= tolerance
    assert type(model[2]) is type(module)


def test_one_module_for_several_widths_is_split():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1)
            self.relu = self.alias = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.conv2(self.relu(self.conv1(x))) + x)

    model = Block()
    converted, changes = convert(model, example_inputs=X)
    assert [(row.site, row.call, row.channels) for row in changes] == [("relu", "1 of 2", 8), ("relu", "2 of 2", 4)]
    assert converted.relu is converted.alias
    assert [layer.channels for layer in converted.relu] == [8, 4]
    with torch.no_grad():
        converted.relu[1].p1.fill_(5.0)  # the second site alone
    inner = converted.relu[0](converted.conv1(X))
    assert torch.allclose(converted(X), converted.relu[1](converted.conv2(inner) + X))
    assert (converted.relu[0](converted.conv1(X)) - model.relu(model.conv1(X))).abs().max() <= 0.01


def test_an_instance_that_the_whole_net_shares_is_unshared():
    class Layer(nn.Module):
        def __init__(self, inputs, outputs, act):
            super().__init__()
            self.conv, self.act = nn.Conv2d(inputs, outputs, 1), act

        def forward(self, x):
            return self.act(self.conv(x))

    act = nn.SiLU()
    model = nn.Sequential(Layer(4, 8, act), Layer(8, 16, act), Layer(16, 8, act))
    converted, changes = convert(model, example_inputs=X)
    assert [row.channels for row in changes] == [8, 16, 8]
    assert [layer.act.channels for layer in converted] == [8, 16, 8]
    assert torch.allclose(converted(X), model(X), atol=1e-6)
    assert all(layer.act is act for layer in model)


def test_a_layer_that_runs_several_times_keeps_one_activation():
    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(4, 8, 1), nn.ReLU()

        def forward(self, x):
            return [self.act(self.conv(level)) for level in (x, x[..., ::2, ::2], x[..., ::3, ::3])]

    converted, changes = convert(Levels(), example_inputs=X)
    assert len(changes) == 1
    assert type(converted.act) is aconite.AconC

    class Functions(Levels):
        def forward(self, levels):
            return [F.relu(self.conv(level)) for level in levels]

    converted, changes = convert(Functions(), example_inputs=([X, X],))
    assert len(changes) == 1
    assert len(converted([X] * 5)) == 5  # any number of levels


def test_a_loop_over_layers_gives_each_its_own():
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))

        def forward(self, x):
            for conv in self.convs:
                x = F.relu(conv(x))
            return x

    converted, changes = convert(Tower(), example_inputs=X)
    assert [row.call for row in changes] == ["relu() 1 of 3", "relu() 2 of 3", "relu() 3 of 3"]
    assert len(list(converted.aconite_calls)) == 3


class Do(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_an_input_that_is_overwritten_and_used_again_is_left():
    class Preactivation(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.conv1, self.conv2, self.act, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), act, nn.ReLU()

        def forward(self, x):
            x = self.conv1(x)
            y = self.conv2(self.act(x))
            return self.last(x + y)  # x has been overwritten where the activation works in place

    for act in (nn.ReLU(inplace=True), Do(F.relu_)):
        _, changes = convert(Preactivation(act), example_inputs=X)
        assert [row.reason for row in changes] == ["it overwrites its input, which is used again", None]
    _, changes = convert(Preactivation(nn.ReLU()), example_inputs=X)
    assert [row.reason for row in changes] == [None, None]


def test_a_module_around_one_function_is_an_activation_module():
    class Nonlinear(nn.Module):
        def forward(self, x):
            return F.gelu(x)

    shared = Nonlinear()
    model = nn.Sequential(nn.Linear(5, 8), shared, nn.Linear(8, 16), shared)
    converted, changes = convert(model, example_inputs=torch.randn(2, 3, 5))
    assert [(row.was, row.channels) for row in changes] == [("GELU", 8), ("GELU", 16)]
    assert [type(layer) for layer in converted] == [nn.Linear, aconite.AconC, nn.Linear, aconite.AconC]


def test_functions_inside_our_own_layers_are_not_sites():
    model = nn.Sequential(nn.Conv2d(4, 8, 1), aconite.activation("se-relu", 8), nn.ReLU())
    _, changes = convert(model, example_inputs=X)
    assert [row.site for row in changes] == ["2"]


def test_meta_acon_where_it_has_nothing_to_pool_or_should_not():
    class Excite(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.down, self.up = (
                nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1),
            )  # fmt: skip
            self.inner = nn.ReLU()

        def forward(self, x):
            x = self.act(self.conv(x))
            return x * torch.sigmoid(self.up(self.inner(self.down(x.mean((2, 3), keepdim=True)))))

    converted, changes = convert(Excite(), "meta-acon", example_inputs=X)
    assert [row.now for row in changes] == ["MetaAconC", None]
    assert "nothing to pool" in changes.rows[1].reason
    assert changes.rows[0].deviation <= 0.01
    converted, changes = convert(Excite(), "acon-c", example_inputs=X)
    assert [row.now for row in changes] == ["AconC", "AconC"]

    tokens = nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 5))
    x = torch.randn(2, 7, 5)
    with pytest.raises(SettingsError, match="allow_pooling=True"):
        convert(tokens, "meta-acon", example_inputs=x)
    converted, changes = convert(tokens, "meta-acon", example_inputs=x, allow_pooling=True)
    assert converted[1].channel_dim == -1


def test_children_that_use_functions_do_not_take_their_callers_turns():
    """The second function call of the model is its own, whatever the modules in between call."""

    class Inner(nn.Module):
        def forward(self, x):
            return F.relu(x - 1) + F.relu(x + 1)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.inner, self.left, self.b = nn.Conv2d(4, 8, 1), Inner(), nn.ReLU(), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = F.relu(self.a(x))
            return F.relu(self.b(self.left(self.inner(x))))

    model = Outer()
    converted, _ = convert(model, example_inputs=X, where=lambda site: site.caller_path == "")
    converted, changes = convert(model, example_inputs=X, where=lambda s: s.caller_path == "" and s.path == "")
    assert [(row.site, row.channels, row.now) for row in changes] == [
        ("", 8, "AconC"), ("inner", 8, None), ("inner", 8, None), ("left", 8, None), ("", 4, "AconC"),
    ]  # fmt: skip
    converted.left = nn.Sequential(nn.ReLU(), Inner())  # put in after the conversion
    model.left = copy.deepcopy(converted.left)
    assert (converted(X) - model(X)).abs().max() < 0.1
