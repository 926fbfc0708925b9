from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aconite.lab import CompareSettings
from aconite.lab.data import ImageData


@pytest.fixture(autouse=True)
def short_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.comparison._COST_SECONDS", 0.0)


@pytest.fixture
def make_data() -> Callable[..., ImageData]:
    """Makes images whose brightness tells the class, with noise; the test images are the first half."""
    return _make_data


def _make_data(count: int = 24, classes: int = 3, channels: int = 1, size: int = 8) -> ImageData:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 60, (count, channels, size, size), generator=draws)
    images = (noise + 60 * labels[:, None, None, None]).to(torch.uint8)
    return ImageData(
        name="tiny",
        classes=tuple("abcdefgh"[:classes]),
        train_images=images,
        train_labels=labels,
        test_images=images[: count // 2],
        test_labels=labels[: count // 2],
        flips=channels == 3,
    )


@pytest.fixture
def tiny() -> ImageData:
    return _make_data()


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes train/<class>/n.png and test/<class>/n.png and returns the folder."""

    def make(mode: str = "L", size: tuple[int, int] = (8, 8), test: str = "test", suffix: str = "png") -> Path:
        folder = tmp_path / "pictures"
        draws = np.random.default_rng(0)
        for split, count in (("train", 6), (test, 3)):
            for label, name in enumerate(("cat", "dog")):
                (folder / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = draws.integers(0, 100, (size[1], size[0], 3)) + 100 * label
                    image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
                    image.save(folder / split / name / f"{number}.{suffix}")
        return folder

    return make


@pytest.fixture
def quick() -> Callable[..., CompareSettings]:
    """Settings of a comparison that takes a second."""

    def make(**changes: object) -> CompareSettings:
        options: dict[str, object] = {
            "activations": ("relu", "acon-c"), "seeds": 2, "epochs": 2, "batch_size": 4, "device": "cpu",
        }  # fmt: skip
        return CompareSettings(**(options | changes))  # type: ignore[arg-type]

    return make
