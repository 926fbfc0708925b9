"""The feature maps of a network, for detection and segmentation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from torch import nn

from aconite.lab.networks.choice import Choice, Init, Tell
from aconite.lab.networks.dilation import dilate
from aconite.lab.networks.weights import Stage, with_weights

__all__ = ["backbone"]


def backbone(
    model: str,
    *,
    activation: str | None,
    out_indices: Sequence[int] = (-3, -2, -1),
    channels: int = 3,
    init: Init = "paper",
    se: bool = False,
    output_stride: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    weights_stage: Stage = "after",
    tell: Tell = warnings.warn,
) -> nn.Module:
    """A network from images (N, channels, H, W) to a list of feature maps; ``channels`` and ``strides`` tell of each.

    Maps are numbered from the finest to the coarsest: after each stage of ours (see `aconite.models.Features`), in
    timm's order, and the last at each resolution in torchvision's ResNets, RegNets, ShuffleNets, MobileNets,
    EfficientNets and ConvNeXts. Head and classifier are left out.

    Args:
        model: as in `classifier`, and so are the others.
        activation: as in `classifier`.
        out_indices: which maps, in this order.
        channels: of the images.
        init: as in `classifier`.
        se: as in `classifier`.
        output_stride: the coarsest stride; beyond it the convolutions are dilated in place of striding.
        weights: as in `classifier`, of the classification network: its head and classifier are left out.
        weights_stage: as in `classifier`.
        tell: as in `classifier`.

    Raises:
        SettingsError: as in `classifier`; no such map, no known stages, strides that are not of convolutions, or a
            model of timm for images of one size.
        UnknownNameError: as in `classifier`, and so are the others.
        CheckpointError: see there.
        StateDictError: see there.
        MissingExtraError: see there.

    >>> import torch
    >>> body = backbone("resnet18", activation="acon-c", output_stride=8)
    >>> body.channels, body.strides
    ((128, 256, 512), (8, 8, 8))
    >>> [tuple(y.shape) for y in body(torch.zeros(1, 3, 64, 96))]
    [(1, 128, 8, 12), (1, 256, 8, 12), (1, 512, 8, 12)]
    """
    choice = Choice(model=model, activation=activation, init=init, se=se, channels=channels, tell=tell)

    def build(choice: Choice) -> nn.Module:
        body = choice.body(out_indices)
        if output_stride is not None:
            dilate(body, output_stride, channels)
        return body

    return with_weights(choice, build, weights, weights_stage, body="")
