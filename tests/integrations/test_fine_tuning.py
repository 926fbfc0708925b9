"""The recipe of docs/fine-tuning.md: convert what is trained, go on with their own learning rate for p1, p2, β."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import aconite


def bars(count: int, seed: int, tilt: bool) -> tuple[Tensor, Tensor]:
    """Images of a bar, horizontal or vertical; tilted, the noise is stronger and the bar is dark."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=draws)
    images = torch.randn(count, 1, 8, 8, generator=draws) * (0.6 if tilt else 0.3)
    for image, label in zip(images, labels, strict=True):
        place = int(torch.randint(0, 8, (), generator=draws))
        bar = image[0, place] if label else image[0, :, place]
        bar += -1.5 if tilt else 1.5
    return images, labels


def train(model: nn.Module, groups: list[dict[str, Any]], data: tuple[Tensor, Tensor], steps: int, lr: float) -> None:
    optimiser = torch.optim.SGD(groups, lr=lr, momentum=0.9)
    draws = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(0, len(data[0]), (32,), generator=draws)
        optimiser.zero_grad()
        F.cross_entropy(model(data[0][chosen]), data[1][chosen]).backward()
        optimiser.step()


@torch.no_grad()
def error(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return float((model.eval()(data[0]).argmax(1) != data[1]).float().mean())


def test_the_recipe() -> None:
    torch.manual_seed(0)
    before, after, test = bars(256, 0, False), bars(256, 1, True), bars(400, 2, True)
    trained = aconite.models.create("resnet8", num_classes=2, in_channels=1, stem="tiny")
    train(trained, aconite.param_groups(trained, 1e-4), before, 60, 0.05)
    start = error(trained, test)

    plain = copy.deepcopy(trained)
    train(plain, aconite.param_groups(plain, 1e-4), after, 60, 0.01)

    converted, changes = aconite.convert(trained, "acon-c", example_inputs=after[0][:2], tolerance=0.01)
    assert changes.output_deviation is not None
    assert changes.output_scale is not None
    assert changes.output_deviation < 0.1 * changes.output_scale
    assert abs(error(converted, test) - start) < 0.03
    groups = aconite.param_groups(converted, 1e-4, lr=0.01, activation_lr=0.001)
    assert {group["name"]: group["lr"] for group in groups} == {
        "weights": 0.01, "biases and norms": 0.01, "activations": 0.001,
    }  # fmt: skip
    first = {name: value.clone() for name, value in converted.state_dict().items() if name.endswith((".p1", ".p2"))}
    train(converted, groups, after, 60, 0.01)
    assert first
    assert all(not torch.equal(value, converted.state_dict()[name]) for name, value in first.items())

    assert error(plain, test) < start - 0.1
    assert error(converted, test) < error(plain, test) + 0.05
