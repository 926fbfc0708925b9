from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from aconite.lab.runs import KINDS, ClassificationSettings
from aconite.nn import AconC

Make = Callable[..., ClassificationSettings]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 images for training and 10 for testing, 12×12, of two classes: "bright" and "dark"."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    draws = np.random.default_rng(0)
    for part, count in (("train", 13), ("test", 5)):
        for label, name in enumerate(("bright", "dark")):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 160, (12, 12, 3)) + 95 * (1 - label)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{number}.png")
    return folder


@pytest.fixture
def quick(pictures: Path) -> Make:
    """Settings of a run of 3 epochs of 6 steps, a second altogether."""

    def make(**changes: Any) -> ClassificationSettings:
        options: dict[str, Any] = {
            "data": str(pictures), "model": "resnet8", "image_size": 12, "resize_side": 12, "crop": "pad",
            "epochs": 3, "batch_size": 4, "accelerator": "cpu", "loggers": (),
        }  # fmt: skip
        return ClassificationSettings(**(options | changes))

    return make


def small_network(*_: Any) -> nn.Module:
    """With BatchNorm and dropout, which draws from torch's own random numbers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), AconC(4), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip


@pytest.fixture
def with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "classification", replace(KINDS["classification"], network=small_network))
