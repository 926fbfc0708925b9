from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from aconite.lab import CompareSettings
from aconite.lab.data import ImageData
from aconite.lab.learnt import learnt
from aconite.lab.training import Cell, new_task
from aconite.nn import MetaAconC

Quick, Make = Callable[..., CompareSettings], Callable[..., ImageData]


@pytest.mark.parametrize("name", ["swish", "acon-b", "acon-c"])
def test_learnt_parameters_are_the_layers_own(name: str, quick: Quick, tiny: ImageData) -> None:
    task = new_task(Cell(0, name), quick(activations=(name,)), tiny)
    layers = [module for module in task.network.modules() if hasattr(module, "beta")]
    found = learnt(task, tiny)
    middle = len(layers) // 2
    assert list(found["layers"]) == [f"layer {n + 1} of {len(layers)}" for n in (0, middle, len(layers) - 1)]
    shown = found["layers"][f"layer {middle + 1} of {len(layers)}"]
    for parameter, fixed in (("p1", 1.0), ("p2", 0.0), ("beta", None)):
        own = getattr(layers[middle], parameter, None)
        expected = [fixed] * len(layers[middle].beta) if own is None else own.tolist()
        assert shown[parameter] == pytest.approx(expected)
    assert found["beta"] == {"all images": layers[-1].beta.tolist()}


@pytest.mark.parametrize("name", ["meta-acon", "meta-acon-layer", "meta-acon-pixel"])
def test_generated_beta_is_each_image_s_own(name: str, quick: Quick, make_data: Make) -> None:
    data = make_data(count=40)
    task = new_task(Cell(0, name), quick(activations=(name,)), data)
    found = learnt(task, data)
    assert list(found["beta"]) == [f"image {n} ({name})" for n, name in enumerate("abcabca", start=1)]
    last = [module for module in task.network.modules() if isinstance(module, MetaAconC)][-1]
    seen = []
    hook = last.register_forward_pre_hook(lambda layer, inputs: seen.append(layer.generate_beta(inputs[0])))
    with torch.no_grad():
        for number in range(7):  # in eval mode an image's β does not depend on the others
            task(data.test_images[number : number + 1])
    hook.remove()
    for beta, expected in zip(found["beta"].values(), seen, strict=True):
        assert beta == pytest.approx(expected.flatten().tolist(), rel=1e-4)
    shown = list(found["layers"].values())[-1]
    assert len(shown["p1"]) == len(shown["beta"]) == 64
    if name == "meta-acon":
        assert shown["beta"] == pytest.approx(torch.cat(seen).mean(0).tolist(), rel=1e-4)


def test_nothing_is_learnt_by_relu_and_a_fixed_swish(quick: Quick, tiny: ImageData) -> None:
    for name in ("relu", "silu"):
        assert learnt(new_task(Cell(0, name), quick(), tiny), tiny) == {"layers": {}, "beta": {}}
