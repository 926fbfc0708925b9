"""What a segmentation network says about the pixels of test images: as a whole, in windows, mirrored too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["pixel_scores"]


def pixel_scores(
    network: nn.Module, images: Tensor, *, window: tuple[int, int] | None = None, flipped: bool = False
) -> Tensor:
    """Scores (N, classes, H, W) of images (N, 3, H, W), the network's own; with ``window`` or ``flipped``
    probabilities.

    PSPNet's scores lie where they belong for sides of 8k + 1, so that the edges of what it sees are drawn out to that.

    Args:
        network: in eval mode, images to scores of the same size.
        images: normalised.
        window: height and width of what the network sees at a time. The windows are two thirds of a window apart, the
            last ones at the image's edges, and where they overlap the probabilities are averaged. A smaller image lies
            in the middle of a window, with zeros around it.
        flipped: the probabilities are the mean of those of what the network sees and of its mirror image.

    Source: the public code of PSPNet (Zhao et al. 2017) tests in this way, mirrored, with windows of 713×713 for
    Cityscapes.
    """
    if window is None:
        return _probabilities(network, images, flipped=True) if flipped else _scores(network, images)
    size = images.shape[-2:]
    lacking = [max(0, side - own) for side, own in zip(window, size, strict=True)]
    top, left = (each // 2 for each in lacking)
    wide = F.pad(images, (left, lacking[1] - left, top, lacking[0] - top))
    sums, counts = torch.empty(0), wide.new_zeros(wide.shape[-2:], dtype=torch.float32)
    for rows in _places(wide.shape[-2], window[0]):
        for columns in _places(wide.shape[-1], window[1]):
            part = _probabilities(network, wide[..., rows, columns], flipped)
            if not sums.numel():
                sums = part.new_zeros((*part.shape[:2], *wide.shape[-2:]))
            sums[..., rows, columns] += part
            counts[rows, columns] += 1
    return sums.div_(counts)[..., top : top + size[0], left : left + size[1]]


def _places(length: int, window: int) -> list[slice]:
    """Where the windows lie along one side.

    >>> _places(10, 6)
    [slice(0, 6, None), slice(4, 10, None)]
    """
    step = -(-2 * window // 3)
    starts = (min(start, length - window) for start in range(0, length - window + step, step))
    return [slice(start, start + window) for start in starts]


def _probabilities(network: nn.Module, images: Tensor, flipped: bool) -> Tensor:
    seen = _softmax(_scores(network, images))
    return (seen + _softmax(_scores(network, images.flip(-1))).flip(-1)) / 2 if flipped else seen


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32))


def _scores(network: nn.Module, images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    wider = F.pad(images, (0, (1 - width) % 8, 0, (1 - height) % 8), mode="replicate")
    return network(wider)[..., :height, :width]  # type: ignore[no-any-return]
