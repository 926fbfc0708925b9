from __future__ import annotations

import statistics

import pytest
import torch
from torch import Tensor, nn

from aconite.lab.networks import pspnet
from aconite.lab.runs.kinds.pixel_scores import pixel_scores


class _Places(nn.Module):
    """Scores that depend on where a pixel lies in what the network sees."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
        return torch.stack([images[:, 0] + rows, images[:, 1] * columns, rows * columns + 0 * images[:, 2]], 1)


@pytest.mark.parametrize("flipped", [False, True])
def test_overlapping_windows_are_averaged(flipped: bool) -> None:
    """Restated pixel by pixel: of each window that holds it the probabilities, and their mean."""
    images = torch.randn((1, 3, 20, 33), generator=torch.Generator().manual_seed(0))
    found = pixel_scores(_Places(), images, window=(17, 9), flipped=flipped)
    tops, lefts = (0, 3), (0, 6, 12, 18, 24)
    assert found.shape == (1, 3, 20, 33)
    for y, x in ((0, 0), (3, 7), (19, 32), (11, 13), (16, 26), (17, 14)):
        means = []
        for top in tops:
            for left in lefts:
                if top <= y < top + 17 and left <= x < left + 9:
                    seen = images[..., top : top + 17, left : left + 9]
                    own = _Places()(seen).softmax(1)[0, :, y - top, x - left]
                    if flipped:
                        mirrored = _Places()(seen.flip(-1)).softmax(1)[0, :, y - top, 8 - (x - left)]
                        own = (own + mirrored) / 2
                    means.append(own.tolist())
        expected = [statistics.fmean(values) for values in zip(*means, strict=True)]
        assert found[0, :, y, x].tolist() == pytest.approx(expected, rel=1e-5), (y, x)


def test_a_window_larger_than_the_image_sees_it_amid_zeros() -> None:
    torch.manual_seed(0)
    network = pspnet("shufflenetv2_x0_5", activation="acon-c", classes=3, width=16).eval()
    images = torch.randn(2, 3, 40, 70)
    with torch.inference_mode():
        found = pixel_scores(network, images, window=(65, 97))
        amid = torch.zeros(2, 3, 65, 97)
        amid[..., 12:52, 13:83] = images
        assert torch.equal(found, network(amid).softmax(1)[..., 12:52, 13:83])
        exact = pixel_scores(network, images[..., :33, :65], window=(33, 65))
        assert torch.equal(exact, network(images[..., :33, :65]).softmax(1))


def test_a_whole_image_mirrored() -> None:
    images = torch.randn((1, 3, 17, 25), generator=torch.Generator().manual_seed(0))
    network = _Places()
    expected = (network(images).softmax(1) + network(images.flip(-1)).softmax(1).flip(-1)) / 2
    torch.testing.assert_close(pixel_scores(network, images, flipped=True), expected)
    torch.testing.assert_close(pixel_scores(network, images), network(images))
