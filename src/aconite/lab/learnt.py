"""What the learnable activations of a trained network have become, in numbers that fit into a cell's file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Tensor

from aconite.lab.data import ImageData
from aconite.lab.tasks import Classification
from aconite.nn import AconA, AconB, AconC, MetaAconC

__all__ = ["Learnt", "learnt"]

_IMAGES = 7  # as many as the paper's figure of Meta-ACON's β has
_Layer = AconA | AconB | AconC | MetaAconC


class Learnt(TypedDict):
    """``layers``: title → p1, p2, beta per channel, of a few layers from the first to the last; for Meta-ACON beta is
    the mean over the sample images. ``beta``: label → the values of β in the last layer, one entry for all images
    where β is a parameter, one for each sample image where it is generated. Both are empty without such layers.
    """

    layers: dict[str, dict[str, list[float]]]
    beta: dict[str, list[float]]


def learnt(task: Classification, data: ImageData) -> Learnt:
    """Reads the network's ACON layers; Meta-ACON's are shown seven test images, of different classes first."""
    layers = [
        module
        for module in task.network.modules()
        if isinstance(module, _Layer) and next(module.parameters(), None) is not None  # AconA may have a fixed β
    ]
    if not layers:
        return Learnt(layers={}, beta={})
    images, labels = _sample(data)
    with _recorded(layers) as betas, torch.no_grad():
        task.eval()(images.to(next(task.parameters()).device))
    chosen = sorted({0, len(layers) // 2, len(layers) - 1})
    shown = {f"layer {number + 1} of {len(layers)}": _parameters(layers[number], betas) for number in chosen}
    if (last := betas.get(layers[-1])) is None:
        return Learnt(layers=shown, beta={"all images": shown[f"layer {len(layers)} of {len(layers)}"]["beta"]})
    return Learnt(layers=shown, beta={label: _numbers(beta) for label, beta in zip(labels, last, strict=True)})


def _sample(data: ImageData) -> tuple[Tensor, list[str]]:
    """Seven test images, the first of each class, then the second of each, and so on; and their labels."""
    seen = [0] * len(data.classes)
    order = []
    for index, label in enumerate(data.test_labels.tolist()):
        order.append((seen[label], label, index))
        seen[label] += 1
    chosen = sorted(order)[:_IMAGES]
    labels = [f"image {number} ({data.classes[label]})" for number, (_, label, _) in enumerate(chosen, start=1)]
    return data.test_images[[index for *_, index in chosen]], labels


@contextmanager
def _recorded(layers: list[_Layer]) -> Iterator[dict[_Layer, Tensor]]:
    """Filled with the β that each Meta-ACON layer generates, while the network runs."""
    betas: dict[_Layer, Tensor] = {}

    def note(layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, MetaAconC)
        betas[layer] = layer.generate_beta(inputs[0])

    hooks = [layer.register_forward_pre_hook(note) for layer in layers if isinstance(layer, MetaAconC)]
    try:
        yield betas
    finally:
        for hook in hooks:
            hook.remove()


def _parameters(layer: _Layer, betas: dict[_Layer, Tensor]) -> dict[str, list[float]]:
    generated = betas.get(layer)  # (N, C), (N, 1) or (N, C, H, W)
    beta = getattr(layer, "beta", None) if generated is None else generated.unsqueeze(2).flatten(2).mean((0, 2))
    values = [torch.as_tensor(value) for value in (getattr(layer, "p1", 1.0), getattr(layer, "p2", 0.0), beta)]
    channels = max(value.numel() for value in values)  # AconA has neither slope, a layer's β may be one number
    p1, p2, beta = (_numbers(value.expand(channels)) for value in values)
    return {"p1": p1, "p2": p2, "beta": beta}


def _numbers(values: Tensor) -> list[float]:
    return [float(value) for value in values.detach().double().flatten().cpu()]
