"""How a network meets the size of its images: what the stem and the first stage do to the resolution."""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass

from aconite.errors import SettingsError

__all__ = ["STEMS", "Stem", "reductions", "stem_for"]


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The strides before a network's body; widths do not depend on it, nor do kernels but ResNet's first."""

    conv_stride: int
    """Stride of the first convolution."""
    pool: bool
    """Whether the resolution is halved once more: by a 3×3 max-pool, or by the first stage of networks without one."""
    stage_stride: int
    """Stride of the next stage that halves the resolution."""

    @property
    def pool_stride(self) -> int:
        """2 where there is a pool, else 1."""
        return 2 if self.pool else 1


STEMS = {
    "imagenet": Stem(conv_stride=2, pool=True, stage_stride=2),
    "small": Stem(conv_stride=1, pool=False, stage_stride=2),
    "tiny": Stem(conv_stride=1, pool=False, stage_stride=1),
}


def reductions(*strides: int) -> tuple[int, ...]:
    """By how much the image has shrunk after each of these strides.

    >>> reductions(4, 1, 2, 2)
    (4, 4, 8, 16)
    """
    return tuple(itertools.accumulate(strides, operator.mul))


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
