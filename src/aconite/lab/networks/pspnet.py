"""Semantic segmentation: PSPNet on any backbone that can be dilated."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from torch import nn

from aconite.errors import SettingsError
from aconite.lab.networks.choice import Choice, Init, Tell
from aconite.lab.networks.dilation import dilate
from aconite.lab.networks.pyramid_pooling import PSPNet
from aconite.lab.networks.weights import Stage, with_weights

__all__ = ["pspnet"]


def pspnet(
    model: str,
    *,
    activation: str | None,
    classes: int,
    everywhere: bool = False,
    freeze_norms: bool = False,
    auxiliary: bool = True,
    bins: Sequence[int] = (1, 2, 3, 6),
    width: int = 512,
    dropout: float = 0.1,
    channels: int = 3,
    init: Init = "paper",
    se: bool = False,
    weights: str | os.PathLike[str] | None = None,
    weights_stage: Stage = "after",
    tell: Tell = warnings.warn,
) -> nn.Module:
    """Pyramid pooling on a backbone dilated to stride 8: images (N, channels, H, W) to class scores (N, classes, H, W).

    The last map is averaged over bins × bins regions for each of ``bins``, each average brought to a share of the
    channels and back to the map's size, and all of them are concatenated to the map; a 3×3 and a 1×1 convolution give
    the scores. An auxiliary head without pooling sits on the map before the last stage: in training the network
    returns (scores, auxiliary scores), else scores alone. The auxiliary loss counts 0.4 in the usual recipe.

    Maps and scores are enlarged bilinearly with ``align_corners=True``, as in the published code: the map's position i
    looks at pixel 8i, so for sides of 8k + 1 (473, 713) the enlarged scores lie where they belong. At other sides they
    are stretched by up to 7 pixels over the whole image.

    A batch of one image in training gives the norm behind the 1×1 average one value per channel, on which BatchNorm
    cannot train: that norm then uses its running statistics. (The published code fails there.)

    With ResNet-50 and 19 classes there are 48,982,822 parameters. The published code has 49,080,038: a stem of three
    3×3 convolutions in place of one 7×7, and no biases in the backbone's convolutions.

    Args:
        model: the backbone, as in `classifier`.
        activation: of the backbone, as in `classifier`.
        classes: how many.
        everywhere: the activation also in the heads; Meta-ACON not after the 1×1 average, where it has nothing to pool.
        freeze_norms: BatchNorms use their running statistics in training too, and their weight and bias are fixed,
            but for the weight and bias of those within Meta-ACON.
        auxiliary: whether there is an auxiliary head.
        bins: how many regions a side has, for each average.
        width: channels before the scores, and twice those of the auxiliary head.
        dropout: before the scores, of whole channels.
        channels: of the images.
        init: as in `classifier`.
        se: as in `classifier`.
        weights: a file of the classification network, for the backbone, or of a whole PSPNet of this kind, whose last
            layers are left out if they are of another number of classes.
        weights_stage: as in `classifier`.
        tell: as in `classifier`.

    Raises:
        SettingsError: as in `classifier`; the backbone cannot be dilated; ``everywhere`` without an activation.
        UnknownNameError: as in `classifier`, and so are the others.
        CheckpointError: see there.
        StateDictError: see there.
        MissingExtraError: see there.

    Source: Zhao et al. 2017, as in the public code of its author; the paper's section 4 takes it for Cityscapes.

    >>> import torch
    >>> network = pspnet("shufflenetv2_x0_5", activation="acon-c", classes=5, width=32)
    >>> [tuple(scores.shape) for scores in network(torch.zeros(2, 3, 65, 97))]
    [(2, 5, 65, 97), (2, 5, 65, 97)]
    >>> network.eval()(torch.zeros(2, 3, 65, 97)).shape
    torch.Size([2, 5, 65, 97])
    """
    if everywhere and activation is None:
        raise SettingsError("everywhere=True puts the activation in the heads: name one")
    choice = Choice(model=model, activation=activation, init=init, se=se, channels=channels, tell=tell)

    def build(choice: Choice) -> nn.Module:
        body = choice.body((-2, -1))
        dilate(body, 8, channels)
        network = PSPNet(body, classes, auxiliary=auxiliary, bins=bins, width=width, dropout=dropout)
        if everywhere and choice.activation is not None:
            network.activate(choice.activation, choice.init, tell)
        return network

    network = with_weights(choice, build, weights, weights_stage, body="body.")
    assert isinstance(network, PSPNet)
    if freeze_norms:
        network.freeze_norms()
    return network
