"""How a network meets the size of its images: what the stem and the first stage do to the resolution."""

from __future__ import annotations

from dataclasses import dataclass

from aconite.errors import SettingsError

__all__ = ["STEMS", "Stem", "stem_for"]


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The strides before a network's body; the widths, and so the parameters, are the same for every stem."""

    conv_stride: int
    """Stride of the first 3×3 convolution."""
    pool: bool
    """Whether a 3×3 max-pool of stride 2 follows it."""
    stage_stride: int
    """Stride of the first stage, in networks whose first stage halves the resolution."""


STEMS = {
    "imagenet": Stem(conv_stride=2, pool=True, stage_stride=2),
    "small": Stem(conv_stride=1, pool=False, stage_stride=2),
    "tiny": Stem(conv_stride=1, pool=False, stage_stride=1),
}


def stem_for(image_size: int) -> str:
    """Name the stem that suits square images of ``image_size`` pixels.

    ``"tiny"`` below 24 pixels, ``"small"`` below 96, else ``"imagenet"``: a ShuffleNetV2's last feature map
    then has between 2×2 (8 pixels) and 12×12 (95 pixels) positions.

    Raises:
        SettingsError: ``image_size`` is not a positive whole number.

    >>> [stem_for(size) for size in (8, 28, 32, 64, 224)]
    ['tiny', 'small', 'small', 'small', 'imagenet']
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise SettingsError(f"image_size={image_size!r}: expected the side in pixels, a whole number of at least 1")
    if image_size < 24:
        return "tiny"
    return "small" if image_size < 96 else "imagenet"
