"""Image classification: a network with as many classes as the data has."""

from __future__ import annotations

import os
import warnings

from torch import nn

from aconite.lab.networks.choice import Choice, Init, Tell
from aconite.lab.networks.weights import Stage, with_weights

__all__ = ["classifier"]


def classifier(
    model: str,
    *,
    activation: str | None,
    classes: int,
    channels: int = 3,
    image_size: int = 224,
    init: Init = "paper",
    se: bool = False,
    weights: str | os.PathLike[str] | None = None,
    weights_stage: Stage = "after",
    tell: Tell = warnings.warn,
) -> nn.Module:
    """A network from images (N, channels, image_size, image_size) to class scores (N, classes).

    Our networks get the activation at the sites of the paper's, and the stem that suits the images. Those of timm and
    torchvision get it by `aconite.surgery.convert` with ``where="paper"``: in bottlenecks after the 3×3 convolution
    only, elsewhere everywhere but in squeeze-and-excitation and heads. With the same seed all weights outside the
    activations are the same, whatever the activation.

    Args:
        model: a name of `aconite.models.list_models`, or ``timm/NAME`` or ``torchvision/NAME``.
        activation: a name or formula of `aconite.nn.activation`; None for the model's own (ReLU in ours).
        classes: how many.
        channels: of the images; torchvision's networks take 3.
        image_size: side of the images, in pixels.
        init: where learnable activations start; "match" imitates the activation in whose place they are.
        se: squeeze-and-excitation at the end of each block, in our networks.
        weights: a file of ``torch.save`` or safetensors with a state dict of the network, or a checkpoint of a run.
            The last layer is left out if it is of another number of classes; everything else must fit.
        weights_stage: "after", the file holds the activations' parameters too; "before", it is of the model with its
            own activation, which the new ones then imitate: ``init`` is "match", whatever it says, with or without a
            file.
        tell: hears what was left out; warns unless given.

    Raises:
        SettingsError: no such source, ``se`` with a model that is not ours, or the model has no site to convert.
        UnknownNameError: the model or activation is not known.
        CheckpointError: the file is missing or damaged.
        StateDictError: the file is of another network; the message lists what is missing and what is unexpected.
        MissingExtraError: timm or torchvision is not installed.

    >>> import torch
    >>> network = classifier("shufflenetv2_x0_5", activation="acon-c", classes=10, image_size=32)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    choice = Choice(model=model, activation=activation, init=init, se=se, channels=channels, tell=tell)
    return with_weights(choice, lambda choice: choice.whole(classes, image_size), weights, weights_stage)
