from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from aconite.lab.networks import pspnet
from aconite.lab.runs import ClassificationSettings, RunProgress, SegmentationSettings, train
from aconite.lab.runs.rates import optimiser, rate_factor
from aconite.nn import AconC, MetaAconC

Make = Callable[..., ClassificationSettings]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1, 1]),
        ({"schedule": "linear"}, [1, 0.75, 0.5, 0.25, 0.01]),
        ({"schedule": "cosine"}, [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 2.467e-4]),
        ({"schedule": "poly"}, [1, 0.75**0.9, 0.5**0.9, 0.25**0.9, 0.01**0.9]),
        ({"schedule": "steps", "milestones": (0.5, 0.75)}, [1, 1, 0.1, 0.01, 0.01]),
    ],
)
def test_how_the_rate_falls(quick: Make, changes: dict[str, Any], expected: list[float]) -> None:
    factor = rate_factor(quick(**changes), 100)
    assert [factor(step) for step in (0, 25, 50, 75, 99)] == pytest.approx(expected, rel=1e-3)
    assert 0 <= factor(1000) <= 1  # Lightning asks for the rate of the step after the last


def test_how_it_rises(quick: Make) -> None:
    factor = rate_factor(quick(schedule="constant", warmup=4, warmup_from=0.2), 10)
    assert [factor(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_is_decayed_and_at_which_rate(quick: Make, name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), AconC(4))
    made = optimiser(network, quick(optimiser=name, lr=0.3, activation_lr=0.03, weight_decay=0.01, momentum=0.8))
    found = {parameter: group for group in made.param_groups for parameter in group["params"]}
    assert len(found) == 7
    convolution, norm, activation = network
    assert found[convolution.weight]["weight_decay"] == 0.01
    for parameter in (convolution.bias, norm.weight, norm.bias, activation.p1, activation.p2, activation.beta):
        assert found[parameter]["weight_decay"] == 0
    assert {found[parameter]["lr"] for parameter in activation.parameters()} == {0.03}
    assert found[convolution.weight]["lr"] == found[norm.weight]["lr"] == 0.3
    if name == "sgd":
        assert {group["momentum"] for group in made.param_groups} == {0.8}


def test_all_decays_but_activations(quick: Make) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), MetaAconC(4))
    made = optimiser(network, quick(decay="all", weight_decay=0.01))
    decays = {parameter: group["weight_decay"] for group in made.param_groups for parameter in group["params"]}
    convolution, norm, activation = network
    kernels = [activation.fc1.weight, activation.fc2.weight]
    for parameter in (convolution.weight, convolution.bias, norm.weight, norm.bias, *kernels):
        assert decays.pop(parameter) == 0.01
    assert {*decays} == {each for each in activation.parameters() if each.ndim == 1}
    assert set(decays.values()) == {0}


def segmentation(**changes: Any) -> SegmentationSettings:
    return SegmentationSettings(data="a", epochs=1, lr=0.3, **changes)


def test_the_heads_have_a_rate_of_their_own() -> None:
    """Ten times that of the same parameter in the backbone, whatever the schedule and the activations' rate."""
    network = pspnet("shufflenetv2_x0_5", activation="acon-c", classes=3, width=16, everywhere=True)
    made = optimiser(network, segmentation(head_rate=10, activation_lr=0.02, decay="all"))
    rates = {parameter: group["lr"] for group in made.param_groups for parameter in group["params"]}
    assert rates.keys() == {*network.parameters()}
    for path, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            expected = 0.02 if isinstance(module, AconC) else 0.3
            assert rates[parameter] == pytest.approx(expected if path.startswith("body") else 10 * expected), path
    assert any(isinstance(module, AconC) for module in network.head.modules())
    assert made.param_groups[0]["params"][0] is network.body.stem.conv.weight  # whose rate is logged
    scheduler = torch.optim.lr_scheduler.LambdaLR(made, lambda step: 0.5**step)
    made.step()
    scheduler.step()
    assert {group["lr"] for group in made.param_groups} == {0.15, 1.5, 0.01, 0.1}


def test_without_a_rate_of_their_own_the_heads_are_no_group() -> None:
    network = pspnet("shufflenetv2_x0_5", activation="relu", classes=3, width=16)
    groups = optimiser(network, segmentation()).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("weights", 0.3), ("biases and norms", 0.3)]


@pytest.mark.parametrize("length", [{"epochs": 3}, {"epochs": None, "steps": 15}, {"epochs": 3, "accumulate": 2}])
def test_the_rates_of_a_run(quick: Make, tmp_path: Any, length: dict[str, Any]) -> None:
    rates: list[float] = []

    class Watch(RunProgress):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: torch.optim.Optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    train(quick(schedule="linear", lr=0.2, **length), tmp_path, Watch())
    steps = length.get("steps") or 18
    assert rates == pytest.approx([0.2 * (1 - step / steps) for step in range(steps)])
