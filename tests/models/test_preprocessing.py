"""The reference code's images: BGR from 0 to 255."""

import copy

import pytest
import torch
from torch import nn

from aconite.errors import SettingsError, ShapeError
from aconite.models import ReferencePreprocessing


def test_bytes_are_reversed_and_keep_their_values():
    x = torch.randint(256, (2, 3, 5, 4), dtype=torch.uint8)
    y = ReferencePreprocessing()(x)
    assert y.dtype == torch.float32
    for ours, theirs in ((0, 2), (1, 1), (2, 0)):
        assert torch.equal(y[:, ours], x[:, theirs].float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floating_images_mean_the_same(dtype):
    x = torch.randint(256, (3, 5, 4), dtype=torch.uint8)
    y = ReferencePreprocessing()((x.double() / 255).to(dtype))
    assert y.dtype == dtype
    assert (y.double() - ReferencePreprocessing()(x)).abs().max() <= 255 * torch.finfo(dtype).eps


def test_its_input_stays():
    x = torch.rand(3, 2, 2)
    before = copy.deepcopy(x)
    ReferencePreprocessing()(x)
    assert torch.equal(x, before)


def test_before_a_network():
    network = nn.Conv2d(3, 2, 1, bias=False)
    x = torch.rand(1, 3, 4, 4)
    expected = torch.einsum("oc,nchw->nohw", network.weight[:, :, 0, 0], x[:, [2, 1, 0]] * 255)
    both = nn.Sequential(ReferencePreprocessing(), network)
    torch.testing.assert_close(both(x), expected)
    assert list(both.state_dict()) == ["1.weight"]


def test_in_torchvisions_compose():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    image = pytest.importorskip("PIL.Image").new("RGB", (300, 280), (255, 127, 1))
    transform = v2.Compose(
        [v2.PILToTensor(), v2.Resize(256, antialias=False), v2.CenterCrop(224), ReferencePreprocessing()]
    )
    y = transform(image)
    assert y.shape == (3, 224, 224)
    assert torch.equal(y[:, 100, 100], torch.tensor([1.0, 127.0, 255.0]))
    with pytest.raises(SettingsError, match=r"not Image: put torchvision\.transforms\.v2\.PILToTensor\(\)"):
        ReferencePreprocessing()(image)


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (2, 5, 4, 3)])
def test_three_channels(shape):
    with pytest.raises(ShapeError, match=r"RGB images \(…, 3, H, W\), not shape"):
        ReferencePreprocessing()(torch.zeros(shape))


def test_other_dtypes():
    with pytest.raises(SettingsError, match=r"not torch\.int64"):
        ReferencePreprocessing()(torch.zeros(3, 2, 2, dtype=torch.int64))
