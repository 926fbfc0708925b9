"""RetinaNet on a body of ours or others'; the door of ``torchvision.models.detection``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aconite.errors import MissingExtraError, SettingsError
from aconite.lab.networks.activating import activate
from aconite.lab.networks.frozen import Freezable

try:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import (
        RetinaNet,
        RetinaNetClassificationHead,
        RetinaNetHead,
        RetinaNetRegressionHead,
    )
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "torchvision").partition(".")[0], "vision") from error

__all__ = ["Detector"]

_RATIOS = (0.5, 1.0, 2.0)


class Detector(Freezable, RetinaNet):  # type: ignore[misc]  # torchvision has no types
    """See `aconite.lab.networks.retinanet`."""

    backbone: Any
    head: Any
    score_layers = ("head.classification_head.cls_logits",)

    def __init__(
        self,
        body: nn.Module,
        classes: int,
        *,
        side: int | Sequence[int],
        longest: int,
        fpn_channels: int,
        head_convs: int,
        anchor_sizes: Sequence[int],
        box_beta: float,
    ) -> None:
        if not 1 <= head_convs <= 4:
            raise SettingsError(f"head_convs={head_convs!r}: expected 1 to 4")
        if len(anchor_sizes) != 5:
            raise SettingsError(f"anchor_sizes={tuple(anchor_sizes)!r}: expected one for each of the levels P3 to P7")
        sizes = tuple(tuple(int(size * 2 ** (octave / 3)) for octave in range(3)) for size in anchor_sizes)
        if box_beta < 0:
            raise SettingsError(f"box_beta={box_beta!r}: expected 0 or more")
        super().__init__(
            _Pyramid(body, fpn_channels),
            classes,
            min_size=(side,) if isinstance(side, int) else tuple(side),
            max_size=longest,
            anchor_generator=AnchorGenerator(sizes, (_RATIOS,) * len(sizes)),
            head=_Head(fpn_channels, 3 * len(_RATIOS), classes, box_beta),
        )
        for head in (self.head.classification_head, self.head.regression_head):
            head.conv = head.conv[:head_convs]

    def activate(self, activation: str, init: str, tell: Any) -> None:
        """Put the activation where the pyramid's and the heads' ReLUs are; a head's layers serve all levels."""
        channels = self.backbone.out_channels
        maps = torch.zeros(2, channels, 8, 8)
        for head in (self.head.classification_head, self.head.regression_head):
            activate(head.conv, activation, maps, init=init, tell=tell)
        activate(self.backbone.fpn.extra_blocks, activation, ([maps], [maps], ["p5"]), init=init, tell=tell)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses in training, else detections; labels count from 1 on the way in and out."""
        if self.training:
            assert targets is not None, "training needs targets"
            targets = [target | {"labels": target["labels"] - 1} for target in targets]
            return super().forward(images, targets)
        return [found | {"labels": found["labels"] + 1} for found in super().forward(images)]


class _Head(RetinaNetHead):  # type: ignore[misc]  # torchvision has no types
    """torchvision's, with the smooth L1 loss of the boxes that β makes."""

    def __init__(self, channels: int, anchors: int, classes: int, box_beta: float) -> None:
        nn.Module.__init__(self)
        self.classification_head = RetinaNetClassificationHead(channels, anchors, classes)
        self.regression_head = _BoxHead(channels, anchors, box_beta)


class _BoxHead(RetinaNetRegressionHead):  # type: ignore[misc]  # torchvision has no types
    def __init__(self, channels: int, anchors: int, beta: float) -> None:
        super().__init__(channels, anchors)
        self.beta = beta

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Tensor:
        """The images' mean of Σ ℓ(offsets − those of the object's box) over an image's matched anchors, divided by
        their number, where ℓ(x) = x²/2β for |x| < β, else |x| − β/2.
        """
        losses = []
        for image, said, places, matched in zip(
            targets, head_outputs["bbox_regression"], anchors, matched_idxs, strict=True
        ):
            own = matched >= 0
            wanted = self.box_coder.encode_single(image["boxes"][matched[own]], places[own])
            loss = F.smooth_l1_loss(said[own], wanted, reduction="sum", beta=self.beta)
            losses.append(loss / own.sum().clamp(min=1))
        return torch.stack(losses).mean()


class _Pyramid(nn.Module):
    """A body with its feature pyramid: images to the maps P3 to P7 by name, of the body's last three."""

    def __init__(self, body: nn.Module, out_channels: int) -> None:
        super().__init__()
        whole: Any = body
        self.body, self.out_channels = body, out_channels
        self.fpn = FeaturePyramidNetwork(
            list(whole.channels[-3:]), out_channels, extra_blocks=LastLevelP6P7(out_channels, out_channels)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = enumerate(self.body(images)[-3:])
        return self.fpn(OrderedDict((str(level), y) for level, y in maps))  # type: ignore[no-any-return]
