"""What training and evaluation do to an image and its target: torchvision's transforms v2; the one door of torchvision.

Each function returns one transform to hand to a data set. Whatever is random in it draws from torch's generator alone,
which the data set sets from (seed, epoch, index) for each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from aconite.errors import MissingExtraError, SettingsError
from aconite.lab.data.masks import IGNORED
from aconite.models import ReferencePreprocessing

try:
    from torchvision import tv_tensors as tv_tensors
    from torchvision.transforms import v2
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "torchvision").partition(".")[0], "vision") from error

__all__ = [
    "Blur",
    "RandomScale",
    "classification_evaluation",
    "classification_training",
    "detection_evaluation",
    "detection_training",
    "segmentation_evaluation",
    "segmentation_training",
    "tv_tensors",
]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images, which everyone uses


class RandomScale(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Resizes image, boxes and mask by one factor, drawn evenly from ``scale``; aspect ratio kept.

    >>> RandomScale((0.5, 0.5))(torch.zeros(3, 10, 20)).shape
    torch.Size([3, 5, 10])
    """

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        factor = float(torch.empty(()).uniform_(*self.scale))
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self._call_kernel(v2.functional.resize, inpt, params["size"], antialias=True)


class Blur(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Smooths the image, and no mask, by (1, 4, 6, 4, 1)/16 along both sides, with the edges mirrored.

    What OpenCV's ``GaussianBlur(image, (5, 5), 0)`` does: up to 7 pixels it takes its kernels from a table, whose
    entry for 5 is this one, and not the Gaussian of the σ = 1.1 that its formula gives for the size.

    >>> dot = torch.zeros(1, 7, 7)
    >>> dot[0, 3, 3] = 16
    >>> Blur()(tv_tensors.Image(dot))[0, 3].tolist()
    [0.0, 0.375, 1.5, 2.25, 1.5, 0.375, 0.0]
    """

    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        x = inpt.as_subclass(torch.Tensor)
        mode = "reflect" if min(x.shape[-2:]) > 2 else "replicate"  # a shorter side has no pixels to mirror
        kernel = torch.tensor([1.0, 4, 6, 4, 1]) / 16
        y = F.pad(x.float()[:, None], (2, 2, 2, 2), mode)  # each channel by itself
        y = F.conv2d(F.conv2d(y, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1))[:, 0]
        return tv_tensors.Image((y if x.is_floating_point() else y.round()).to(x.dtype))


class _Reference(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """`aconite.models.ReferencePreprocessing` of the image, whatever its target."""

    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return tv_tensors.Image(ReferencePreprocessing()(inpt.as_subclass(torch.Tensor)))


def classification_training(
    size: int = 224,
    scale: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    *,
    jitter: float = 0.0,
    crop: str = "resized",
    values: str = "imagenet",
) -> v2.Compose:
    """A random crop of ``size`` × ``size``; brightness, contrast and saturation changed; mirrored; as the network's
    values.

    ``crop="resized"`` takes a random share of the image's area, between the two of ``scale``, and resizes it. "pad" is
    for small images: the shorter side becomes ``size``, four black pixels are put around, and the crop is as it is.
    ``jitter`` is the most by which each factor is off 1, 0.4 in the paper's recipe. ``values``: "imagenet", normalised
    RGB; "bgr255", BGR from 0 to 255 as in the reference code.

    Raises:
        SettingsError: no such crop or values.

    >>> [type(step).__name__ for step in classification_training(32, crop="pad", jitter=0.4).transforms]
    ['Resize', 'RandomCrop', 'ColorJitter', 'RandomHorizontalFlip', 'ToDtype', 'Normalize']
    """
    if crop not in ("resized", "pad"):
        raise SettingsError(f"crop={crop!r}: expected 'resized' or 'pad'")
    resized = [v2.RandomResizedCrop(size, scale=scale)]
    cut = resized if crop == "resized" else [v2.Resize(size), v2.RandomCrop(size, padding=4)]
    colours = [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
    return _compose(*cut, *colours, v2.RandomHorizontalFlip(flip), *_fed(values))


def classification_evaluation(size: int = 224, side: int = 256, *, values: str = "imagenet") -> v2.Compose:
    """The shorter side resized to ``side``, the middle ``size`` × ``size`` cut out; ``values`` as in
    `classification_training`.
    """
    return _compose(v2.Resize(side), v2.CenterCrop(size), *_fed(values))


def detection_training(
    side: int | Sequence[int] | None = None, longest: int = 1333, flip: float = 0.5, normalise: bool = False
) -> v2.Compose:
    """Mirrored; the shorter side resized to ``side`` (one of several: drawn), the longer at most ``longest``.

    torchvision's detection models resize and normalise by themselves, so that neither is done unless asked for.

    >>> [type(step).__name__ for step in detection_training(side=600).transforms]
    ['RandomHorizontalFlip', 'RandomShortestSize', 'SanitizeBoundingBoxes', 'ToDtype']
    """
    resize = [] if side is None else [v2.RandomShortestSize([side] if isinstance(side, int) else list(side), longest)]
    return _compose(v2.RandomHorizontalFlip(flip), *resize, v2.SanitizeBoundingBoxes(labels_getter=_per_box),
                    *_normalised(normalise))  # fmt: skip


def detection_evaluation(side: int | None = None, longest: int = 1333, normalise: bool = False) -> v2.Compose:
    """As `detection_training` without chance: boxes are those of the resized image."""
    resize = [] if side is None else [v2.RandomShortestSize([side], longest)]
    return _compose(*resize, *_normalised(normalise))


def segmentation_training(
    crop: int | tuple[int, int],
    scale: tuple[float, float] = (0.5, 2.0),
    rotation: float = 0.0,
    flip: float = 0.5,
    *,
    turn: float = 1.0,
    blur: float = 0.0,
) -> v2.Compose:
    """Scaled by a random factor, rotated by up to ``rotation`` degrees, blurred, mirrored, a random ``crop`` (height,
    width) cut out; normalised. ``turn``, ``blur`` and ``flip`` are how often it is rotated, blurred and mirrored.

    What a rotation or a crop larger than the image adds is the mean colour, ignored in the mask.

    >>> image = tv_tensors.Image(torch.zeros(3, 40, 60, dtype=torch.uint8))
    >>> mask = tv_tensors.Mask(torch.zeros(40, 60, dtype=torch.int64))
    >>> [tuple(part.shape) for part in segmentation_training(crop=(32, 48))(image, mask)]
    [(3, 32, 48), (32, 48)]
    """
    fill = {tv_tensors.Image: [round(255 * mean) for mean in MEAN], tv_tensors.Mask: IGNORED}
    turned = [v2.RandomRotation(rotation, v2.InterpolationMode.BILINEAR, fill=fill)] if rotation else []
    if turned and turn < 1:
        turned = [v2.RandomApply(turned, turn)]
    blurred = [v2.RandomApply([Blur()], blur)] if blur else []
    cut = v2.RandomCrop(crop, pad_if_needed=True, fill=fill)
    return _compose(RandomScale(scale), *turned, *blurred, v2.RandomHorizontalFlip(flip), cut, *_normalised())


def segmentation_evaluation(side: int | None = None) -> v2.Compose:
    """Normalised; with ``side`` image and mask are first resized to that shorter side."""
    return _compose(*([] if side is None else [v2.Resize(side)]), *_normalised())


def _compose(*steps: Any) -> v2.Compose:
    return v2.Compose(list(steps))


def _fed(values: str) -> list[Any]:
    if values not in ("imagenet", "bgr255"):
        raise SettingsError(f"values={values!r}: expected 'imagenet' or 'bgr255'")
    return _normalised() if values == "imagenet" else [_Reference()]


def _normalised(normalise: bool = True) -> list[Any]:
    # float32 for images only: ToDtype leaves masks and boxes alone
    return [v2.ToDtype(torch.float32, scale=True), *([v2.Normalize(MEAN, DEVIATION)] if normalise else [])]


def _per_box(inputs: Any) -> tuple[torch.Tensor, ...]:
    """The target's entries that lose a row when a box is lost."""
    target = inputs[1]
    return target["labels"], target["area"], target["iscrowd"]
