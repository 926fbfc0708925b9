"""Squeeze-and-excitation versions: where it stands, what it adds, and that nothing else changes."""

import pytest
import torch
from torch import nn

from aconite.models import create, stem_for
from aconite.nn import SqueezeExcite

# The output channels of each block's main branch.
MAINS = {
    "resnet8": (16, 32, 64),
    "resnet20": (*3 * [16], *3 * [32], *3 * [64]),
    "resnet18": (64, 64, 128, 128, 256, 256, 512, 512),
    "resnet50": (*3 * [256], *4 * [512], *6 * [1024], *3 * [2048]),
    "shufflenetv2_x0_5": (24, *3 * [24], 48, *7 * [48], 96, *3 * [96]),
    "shufflenetv2_x1_5": (152, *3 * [88], 176, *7 * [176], 352, *3 * [352]),
    "mobilenetv2_x1_0": (16, *2 * [24], *3 * [32], *4 * [64], *3 * [96], *3 * [160], 320),
    "tfnet_0_5": (8, 16, 16, 32, 32, 32, *7 * [64], 64, 128, 128),
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MAINS)
def test_every_block_ends_in_it(name):
    model = create(name, se=True)
    places = {path: module for path, module in model.named_modules() if isinstance(module, SqueezeExcite)}
    assert tuple(module.channels for module in places.values()) == MAINS[name]
    for path in places:
        brick = model.get_submodule(path.rpartition(".")[0])
        assert path.endswith(".se")
        assert list(brick.children())[-1] is places[path]
    added = sum(2 * max(16, c // 16) * c + max(16, c // 16) + c for c in MAINS[name])
    assert count(model) - count(create(name)) == added


@pytest.mark.parametrize("activation", ["relu", "acon-c", "meta-acon"])
@pytest.mark.parametrize("name", ["resnet8", "shufflenetv2_x0_5", "mobilenetv2_x0_17", "tfnet_0_5"])
def test_every_other_weight_is_the_same(name, activation):
    torch.manual_seed(0)
    plain, stream = create(name, activation=activation).state_dict(), torch.get_rng_state()
    torch.manual_seed(0)
    squeezed = create(name, activation=activation, se=True).state_dict()
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(squeezed[key], value) for key, value in plain.items())
    assert all(".se." in key for key in squeezed.keys() - plain.keys())
    torch.manual_seed(0)
    relu = create(name, se=True).state_dict()
    assert all(torch.equal(squeezed[key], value) for key, value in relu.items())


def test_its_weights_follow_the_networks_rule():
    torch.manual_seed(0)
    se = create("resnet18", se=True).stages[3][1].main[1].se
    assert se.fc1.weight.std().item() == pytest.approx((2 / 32) ** 0.5, rel=0.1)
    assert se.fc2.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.1)
    se = create("shufflenetv2_x0_5", se=True).stages[2][1].main[2].se
    assert se.fc1.weight.std().item() == pytest.approx(1 / 96, rel=0.1)
    assert not se.fc1.bias.any()


@pytest.mark.parametrize("size", [8, 28, 96])
@pytest.mark.parametrize("name", ["resnet8", "resnet18", "shufflenetv2_x0_5", "mobilenetv2_x0_17", "tfnet_0_5"])
def test_a_batch_of_one_trains(name, size):
    torch.manual_seed(0)
    model = create(name, activation="acon-c", num_classes=3, stem=stem_for(size), se=True).train()
    nn.functional.cross_entropy(model(torch.randn(1, 3, size, size)), torch.tensor([1])).backward()
    gates = [module for module in model.modules() if isinstance(module, SqueezeExcite)]
    assert gates
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(gate.fc2.bias.grad.any() for gate in gates)
