"""Object detection: RetinaNet on any backbone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from aconite.errors import SettingsError
from aconite.lab.networks.choice import Choice, Init, Tell
from aconite.lab.networks.weights import Stage, with_weights

__all__ = ["retinanet"]


def retinanet(
    model: str,
    *,
    activation: str | None,
    classes: int,
    everywhere: bool = False,
    freeze_norms: bool = False,
    freeze_stem: bool = False,
    side: int | Sequence[int] = 800,
    longest: int = 1333,
    fpn_channels: int = 256,
    head_convs: int = 4,
    anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
    box_beta: float = 0.0,
    init: Init = "paper",
    se: bool = False,
    weights: str | os.PathLike[str] | None = None,
    weights_stage: Stage = "after",
    tell: Tell = warnings.warn,
) -> nn.Module:
    """torchvision's RetinaNet: feature pyramid P3 to P7 (strides 8 to 128), focal loss, two heads shared by the levels.

    It takes a list of images (3, H, W) from 0 to 1, which it normalises and resizes itself, and in training a list of
    targets with ``boxes`` (N, 4), xyxy in pixels, and ``labels`` (N,) from 1. In training it returns the losses
    "classification" and "bbox_regression", else for each image ``boxes``, ``scores`` and ``labels`` from 1. Inside,
    label k is the score k − 1: there is none for the background.

    With "torchvision/resnet50" and 90 classes it has the 34,047,374 parameters of torchvision's
    ``retinanet_resnet50_fpn(num_classes=90)``. Our ResNet-50 adds the biases of its convolutions, 26,560.

    Args:
        model: the backbone, as in `classifier`; its last three maps have the strides 8, 16 and 32.
        activation: of the backbone, as in `classifier`.
        classes: how many, without the background.
        everywhere: the activation also in the heads, where each stands for all levels, and between P6 and P7.
        freeze_norms: BatchNorms use their running statistics in training too, and their weight and bias are fixed,
            but for the weight and bias of those within Meta-ACON.
        freeze_stem: everything before the map of stride 4, a ResNet's stem and first stage, stays as it is, activations
            and the statistics of BatchNorms too; the backbone's fourth-last map then has the stride 4.
        side: what the shorter side of an image is resized to; of several one is drawn in training, and evaluation takes
            the last.
        longest: the most that the longer side may have.
        fpn_channels: of the pyramid and the heads; fewer than 256 for small machines.
        head_convs: convolutions in each head before its last, 1 to 4.
        anchor_sizes: side of the anchors of each level, in pixels; there are two more sizes between it and its double.
        box_beta: β of the smooth L1 loss of the boxes, x²/2β for |x| < β, else |x| − β/2; 0 for L1, as in torchvision.
        init: as in `classifier`.
        se: as in `classifier`.
        weights: a file of the classification network, for the backbone, or of a whole RetinaNet of this kind, whose
            last layer of class scores is left out if it is of another number of classes.
        weights_stage: as in `classifier`.
        tell: as in `classifier`.

    Raises:
        SettingsError: as in `classifier`; the backbone has other strides, or no map of stride 4 before those for
            ``freeze_stem``; ``everywhere`` without an activation.
        UnknownNameError: as in `classifier`, and so are the others.
        CheckpointError: see there.
        StateDictError: see there.
        MissingExtraError: torchvision or timm is not installed.

    Source: Lin et al. 2017; the paper's section 4 takes it for COCO with ResNet-50.

    >>> import torch
    >>> network = retinanet("shufflenetv2_x0_5", activation="acon-c", classes=3, side=64, fpn_channels=16, head_convs=1)
    >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([3])}
    >>> sorted(network([torch.rand(3, 64, 64)], [target]))
    ['bbox_regression', 'classification']
    """
    from aconite.lab.networks.detector import Detector

    if everywhere and activation is None:
        raise SettingsError("everywhere=True puts the activation in the heads: name one")
    choice = Choice(model=model, activation=activation, init=init, se=se, tell=tell)

    def build(choice: Choice) -> nn.Module:
        body = _body(choice, stem=freeze_stem)
        network = Detector(
            body,
            classes,
            side=side,
            longest=longest,
            fpn_channels=fpn_channels,
            head_convs=head_convs,
            anchor_sizes=anchor_sizes,
            box_beta=box_beta,
        )
        if everywhere and choice.activation is not None:
            network.activate(choice.activation, choice.init, tell)
        return network

    network = with_weights(choice, build, weights, weights_stage, body="backbone.body.")
    assert isinstance(network, Detector)
    if freeze_stem:
        network.freeze_stem(network.backbone.body)
    if freeze_norms:
        network.freeze_norms()
    return network


def _body(choice: Choice, *, stem: bool) -> Any:
    """The maps of strides 8, 16 and 32, after that of stride 4 if its stem is asked for."""
    last = (-3, -2, -1)
    try:
        body: Any = choice.body((-4, *last) if stem else last)
    except SettingsError:
        if not stem:
            raise
        body = choice.body(last)  # whose error is told if the fourth map is not to blame
    if body.strides[-3:] != (8, 16, 32):
        raise SettingsError(
            f"the last maps of {choice.model} have strides {body.strides[-3:]}: RetinaNet needs 8, 16 and 32"
        )
    if stem and body.strides != (4, 8, 16, 32):
        has = f"{choice.model}'s has stride {body.strides[0]}" if len(body.strides) > 3 else f"{choice.model} has none"
        raise SettingsError(
            f"freeze_stem fixes what makes the map of stride 4, the fourth-last, and {has}: leave it away "
            "(--no-freeze-stem), or choose a ResNet, a MobileNet or another network with such a map"
        )
    return body
