"""One pass over labelled images, forward and back, with the activations watched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aconite.errors import SettingsError, ShapeError
from aconite.inspection import ActivationStatistics, LayerStatistics
from aconite.lab.data import ImageData
from aconite.provenance import provenance

__all__ = ["Inspection", "inspect", "inspection_json"]

_SHOWN = 7  # as many images as the paper's figure of β has


@dataclass(frozen=True, eq=False, kw_only=True)
class Inspection:
    """What a pass over the data found.

    Attributes:
        name: of the model.
        data: the data set's name, with the part that was seen.
        images: how many were seen.
        error: of the model on them, in %.
        layers: by name, in the order in which they ran.
        labels: of the images whose generated β were kept.
        parameters: how many numbers the model learns.
        provenance: versions and device.
    """

    name: str
    data: str
    images: int
    error: float
    layers: Mapping[str, LayerStatistics]
    labels: tuple[str, ...]
    parameters: int
    provenance: Mapping[str, Any]


def inspect(
    model: nn.Module,
    data: ImageData,
    *,
    name: str = "model",
    part: str = "test",
    batch_size: int = 128,
    raw: bool = False,
    channel_dim: int = 1,
) -> Inspection:
    """Shows a model every image once, in eval mode, and measures what its activations do.

    Forward gives the activations' statistics; backward from each image's own cross-entropy gives the gradient at each
    layer, so that no figure depends on ``batch_size``. The model stays as it is.

    Args:
        model: takes (N, C, H, W) and returns class scores (N, classes).
        data: labelled images.
        name: of the model, for the report.
        part: "test" or "train" (without shifts and mirroring).
        batch_size: images at a time.
        raw: pass the bytes on as floats in 0…255; otherwise each colour channel is normalised by its mean and
            deviation over the training images, as in `compare`.
        channel_dim: where the channels are, for layers that do not know it.

    Raises:
        SettingsError: an option that is not allowed, a model without activation modules, or one that gives no scores.
    """
    if part not in ("test", "train"):
        raise SettingsError(f"part is {part!r}: choose test or train")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise SettingsError(f"batch_size is {batch_size!r}: it must be a whole number, at least 1")
    images, labels = (data.test_images, data.test_labels) if part == "test" else (data.train_images, data.train_labels)
    order = _varied_first(labels)
    mean, deviation = data.channel_statistics()
    wrong = 0
    with _ready(model) as device, ActivationStatistics(model, channel_dim=channel_dim, images=_SHOWN) as statistics:
        for chosen in torch.split(order, batch_size):
            batch, target = images[chosen].to(device).float(), labels[chosen].to(device)
            if not raw:
                batch = (batch - mean[:, None, None].to(device)) / deviation[:, None, None].to(device)
            scores = _scores(model, batch.requires_grad_().clone(), len(data.classes))
            F.cross_entropy(scores, target, reduction="sum").backward()  # type: ignore[no-untyped-call]
            wrong += int((scores.detach().argmax(1) != target).sum())
    return Inspection(
        name=name, data=f"{data.name}, {part}", images=len(labels), error=100 * wrong / len(labels),
        layers=statistics.layers(), parameters=sum(parameter.numel() for parameter in model.parameters()),
        labels=tuple(f"image {at} ({data.classes[labels[index]]})" for at, index in enumerate(order[:_SHOWN], start=1)),
        provenance=provenance(str(device.type)),
    )  # fmt: skip


def inspection_json(found: Inspection) -> bytes:
    """Everything that was measured, channel by channel."""
    record = {
        "model": found.name, "data": found.data, "images": found.images, "error": found.error,
        "parameters": found.parameters, "layers": {name: layer.as_row() for name, layer in found.layers.items()},
        "labels": found.labels, "provenance": dict(found.provenance),
    }  # fmt: skip
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def _varied_first(labels: Tensor) -> Tensor:
    """All indices: the first image of each class, then the others in their order."""
    places: dict[int, int] = {}
    for at, label in enumerate(labels.tolist()):
        places.setdefault(label, at)
    first = [places[label] for label in sorted(places)]
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[first] = False
    return torch.cat([torch.tensor(first, dtype=torch.int64), rest.nonzero().flatten()])


@contextmanager
def _ready(model: nn.Module) -> Iterator[torch.device]:
    """In eval mode, with gradients for the activations alone; yields where the model is."""
    parameters = list(model.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    modes = {module: module.training for module in model.modules()}
    model.eval().requires_grad_(False)
    try:
        yield parameters[0].device if parameters else torch.device("cpu")
    finally:
        for parameter, want in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(want)
        for module, mode in modes.items():
            module.training = mode


def _scores(model: nn.Module, batch: Tensor, classes: int) -> Tensor:
    try:
        scores = model(batch)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ShapeError(f"the model does not take images of shape {tuple(batch.shape)}: {reason}") from error
    if not (isinstance(scores, Tensor) and scores.ndim == 2 and scores.shape[1] >= classes):
        what = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise SettingsError(f"the model returns {what}; expected class scores (N, C) with C at least {classes}")
    return scores
