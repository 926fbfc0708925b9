"""What the reference code does to an image before its networks see it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aconite.errors import SettingsError, ShapeError

__all__ = ["ReferencePreprocessing"]


class ReferencePreprocessing(nn.Module):
    """RGB images to what the published checkpoints expect: BGR from 0 to 255, not normalised.

    A torchvision transform, or the first module of a `torch.nn.Sequential`. Images of dtype uint8 count from 0 to 255
    and become float32; floating ones count from 0 to 1, as in torchvision, and keep their dtype.

    Shape:
        (…, 3, H, W) to the same.

    Raises:
        SettingsError: the image is no tensor, or of another dtype.
        ShapeError: it has no three channels.

    Source: the reference code's ``train.py``, which scales the short side to 256 (bilinear, without antialiasing) and
    cuts out the middle 224×224 before.

    >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(3, 1, 1)
    >>> ReferencePreprocessing()(red).flatten()
    tensor([  0.,   0., 255.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """The channels in reverse order, from 0 to 255."""
        if not isinstance(x, Tensor):
            raise SettingsError(
                f"ReferencePreprocessing takes tensors, not {type(x).__name__}: put "
                "torchvision.transforms.v2.PILToTensor() before it"
            )
        if x.ndim < 3 or x.shape[-3] != 3:
            raise ShapeError(f"ReferencePreprocessing takes RGB images (…, 3, H, W), not shape {tuple(x.shape)}")
        if x.dtype == torch.uint8:
            return x.flip(-3).float()
        if not x.is_floating_point():
            raise SettingsError(
                f"ReferencePreprocessing takes uint8 (0 to 255) or floating images (0 to 1), not {x.dtype}"
            )
        return x.flip(-3) * 255
