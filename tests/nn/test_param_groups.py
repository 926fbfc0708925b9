"""Which parameters decay, and at which learning rate they learn."""

import pytest
import torch
from torch import nn

import aconite
from aconite import nn as ann
from aconite.nn import param_groups


def names(model, groups):
    known = {id(p): n for n, p in model.named_parameters()}
    return {group["name"]: [known[id(p)] for p in group["params"]] for group in groups}


def network(channels=8):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        ann.AconC(channels),
        nn.Conv2d(8, 8, 1),
        ann.MetaAconC(channels),
        nn.PReLU(8),
        ann.PReLU(channels),
        ann.Maxout(channels),
        ann.SqueezeExcite(channels),
        ann.AconFReLU(channels, learn_beta=True),
        nn.GroupNorm(2, 8),
        nn.Flatten(),
        nn.LazyLinear(4),
        nn.LayerNorm(4),
    )


@pytest.mark.parametrize("channels", [8, None], ids=["built", "lazy"])
def test_every_parameter_is_where_it_belongs(channels):
    model = network(channels)
    groups = param_groups(model, 1e-4)
    assert names(model, groups) == {
        "weights": ["0.weight", "3.weight", "12.weight"],
        "biases and norms": [
            "1.weight",
            "1.bias",
            "3.bias",
            "5.weight",
            "10.weight",
            "10.bias",
            "12.bias",
            "13.weight",
            "13.bias",
        ],
        "activation weights": ["4.fc1.weight", "4.fc2.weight", "8.fc1.weight", "8.fc2.weight", "9.conv_frelu.weight"],
        "activations": [
            "2.p1",
            "2.p2",
            "2.beta",
            "4.p1",
            "4.p2",
            "4.fc1.bias",
            "4.bn1.weight",
            "4.bn1.bias",
            "4.fc2.bias",
            "4.bn2.weight",
            "4.bn2.bias",
            "6.weight",
            "7.p1",
            "7.p2",
            "8.fc1.bias",
            "8.fc2.bias",
            "9.beta",
            "9.conv_frelu.bias",
            "9.bn1.weight",
            "9.bn1.bias",
            "9.bn2.weight",
            "9.bn2.bias",
        ],
    }
    decayed = {n for g in groups if g["weight_decay"] for n in names(model, [g])[g["name"]]}
    assert decayed == {
        "0.weight",
        "3.weight",
        "12.weight",
        "4.fc1.weight",
        "4.fc2.weight",
        "8.fc1.weight",
        "8.fc2.weight",
        "9.conv_frelu.weight",
    }
    assert all(g["weight_decay"] in (0.0, 1e-4) for g in groups)
    assert not any("lr" in g for g in groups)
    torch.optim.SGD(groups, lr=0.1)


def test_order_and_completeness():
    model = network()
    found = [name for group in names(model, param_groups(model, 1e-4)).values() for name in group]
    assert len(found) == len(set(found))
    assert set(found) == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("name", list(aconite.activations()))
def test_no_activation_parameter_decays_but_its_kernels(name):
    for channels in (8, None):
        layer = aconite.activation(name, channels)
        for group in param_groups(layer, 1.0):
            for parameter_name in names(layer, [group])[group["name"]]:
                assert bool(group["weight_decay"]) == parameter_name.endswith(
                    ("fc1.weight", "fc2.weight", "conv_frelu.weight")
                )


def test_learning_rates():
    model = network()
    rates = {g["name"]: g.get("lr") for g in param_groups(model, 1e-4, lr=0.5, activation_lr=0.05)}
    assert rates == {"weights": 0.5, "biases and norms": 0.5, "activation weights": 0.05, "activations": 0.05}
    rates = {g["name"]: g.get("lr") for g in param_groups(model, 1e-4, lr=0.5)}
    assert set(rates.values()) == {0.5}
    rates = {g["name"]: g.get("lr") for g in param_groups(model, 1e-4, activation_lr=0.05)}
    assert rates == {"weights": None, "biases and norms": None, "activation weights": 0.05, "activations": 0.05}


def test_shared_parameters_once_and_frozen_ones_not_at_all():
    shared = ann.AconC(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), shared, nn.Conv2d(4, 4, 1), shared)
    model[2].weight = nn.Parameter(model[2].weight.detach())
    tied = nn.Linear(4, 4)
    model.append(tied)
    other = nn.Linear(4, 4)
    other.weight = tied.weight
    model.append(other)
    model[0].requires_grad_(False)
    found = [p for g in param_groups(model, 1e-4) for p in g["params"]]
    assert len(found) == len({id(p) for p in found})
    assert {id(p) for p in found} == {id(p) for p in model.parameters() if p.requires_grad}
    torch.optim.SGD(param_groups(model, 1e-4), lr=0.1)


def test_empty_groups_are_left_out():
    assert [g["name"] for g in param_groups(ann.AconC(4), 1e-4)] == ["activations"]
    assert param_groups(nn.ReLU(), 1e-4) == []
