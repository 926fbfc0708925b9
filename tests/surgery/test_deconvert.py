"""After `deconvert` a model is what it was before `convert`, with the weights it has now."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import aconite
from aconite.errors import SettingsError
from aconite.surgery import convert, deconvert


class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv1, self.conv2, self.act = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1), act
        self.last = self.alias = nn.PReLU(4)

    def forward(self, x):
        y = self.act(self.conv1(x))
        y = self.act(F.leaky_relu(self.conv2(y), 0.2))
        return self.last(F.relu(y) + x)


def network():
    torch.manual_seed(0)
    act = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), Block(act), Block(act))


X = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def shape_of(model):
    """Classes, attributes and which of them are one object."""
    numbers = {}
    return [
        (path, type(module), numbers.setdefault(id(module), len(numbers)), sorted(module.__dict__), str(module))
        for path, module in model.named_modules(remove_duplicate=False)
    ]


@pytest.mark.parametrize("to", ["acon-c", "meta-acon"])
@pytest.mark.parametrize("saved", [False, True])
def test_round_trip(to, saved):
    model = network()
    converted, changes = convert(model, to, example_inputs=X)
    assert all(row.now for row in changes)
    if saved:
        stream = io.BytesIO()
        torch.save(converted, stream)
        stream.seek(0)
        converted = torch.load(stream, weights_only=False)
    back, undone = deconvert(converted)
    assert shape_of(back) == shape_of(model)
    assert back[2].act is back[3].act
    assert torch.equal(back(X), model(X))
    assert list(back.state_dict()) == list(model.state_dict())
    assert len(undone) == len(changes)
    assert sum(row.dropped for row in undone) == sum(p.numel() for p in converted.parameters()) - sum(
        p.numel() for p in model.parameters() if p is not model[2].last.weight and p is not model[3].last.weight
    )
    assert "converted" not in str(undone)
    assert type(converted[1]) is not nn.SiLU  # a copy was changed


def test_trained_weights_stay_and_learnt_values_go():
    model = network()
    converted, _ = convert(model, example_inputs=X)
    optimiser = torch.optim.SGD(converted.parameters(), lr=0.1)
    converted(X).square().mean().backward()
    optimiser.step()
    trained = converted[2].conv1.weight.detach().clone()
    back, changes = deconvert(converted, inplace=True)
    assert back is converted
    assert torch.equal(back[2].conv1.weight, trained)
    assert not torch.equal(trained, model[2].conv1.weight)
    assert changes.summary == "11 layers taken out; 156 learnt values are dropped"
    assert [(row.site, row.was, row.now) for row in changes][:5] == [
        ("1", "AconC", "SiLU"),
        ("2.act", "AconC", "ReLU"),
        ("2.act", "AconC", "ReLU"),
        ("2.last", "AconC", "PReLU"),
        ("2", "AconC", "leaky_relu()"),
    ]


def test_partly_converted():
    model = network()
    for where in (nn.ReLU, "2.act", 0, -1, lambda site: site.call == "2 of 2"):
        back, _ = deconvert(convert(model, example_inputs=X, where=where)[0])
        assert shape_of(back) == shape_of(model)
        assert torch.equal(back(X), model(X))


def test_device_mode_and_dtype_follow_the_model():
    converted, _ = convert(network(), example_inputs=X)
    converted.eval().double()
    back, _ = deconvert(converted)
    assert not any(module.training for module in back.modules())
    assert {p.dtype for p in back.parameters()} == {torch.float64}
    assert back(X.double()).dtype == torch.float64


def test_what_is_not_converted():
    with pytest.raises(SettingsError, match="nothing to deconvert: the model holds no layer that"):
        deconvert(network())
    own = nn.Sequential(nn.Linear(3, 4), aconite.AconC(4))
    with pytest.raises(SettingsError, match="nothing to deconvert"):
        deconvert(own)
    converted, _ = convert(own, "acon-b", example_inputs=torch.zeros(2, 3), init="swish")
    before = copy.deepcopy(own.state_dict())
    back, _ = deconvert(converted)
    assert all(torch.equal(value, before[name]) for name, value in back.state_dict().items())


def test_a_patched_forward_comes_back():
    model = network()

    def forward(x):
        return type(model[2]).forward(model[2], x) * 2

    model[2].forward = forward
    expected = model(X)
    converted, _ = convert(model, example_inputs=X, tolerance=1e-5, inplace=True)
    assert torch.allclose(converted(X), expected, atol=1e-3)
    deconvert(converted, inplace=True)
    assert model[2].forward is forward
    assert torch.equal(model(X), expected)
