from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from aconite.errors import MissingExtraError
from aconite.lab.data import transforms

MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def image_of(height: int, width: int) -> tv_tensors.Image:
    return tv_tensors.Image(torch.arange(3 * height * width).view(3, height, width).remainder(256).to(torch.uint8))


def target_of(boxes: list[list[float]], canvas: tuple[int, int]) -> dict[str, Any]:
    return {
        "boxes": tv_tensors.BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=canvas),  # type: ignore[call-overload]
        "labels": torch.arange(1, len(boxes) + 1),
        "area": torch.ones(len(boxes)),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
        "image_id": 5,
    }


def test_classification_evaluation_cuts_the_middle_and_normalises() -> None:
    image = tv_tensors.Image(torch.zeros(3, 16, 32, dtype=torch.uint8))
    image[:, 4:12, 12:20] = 255
    changed = transforms.classification_evaluation(size=8, side=16)(image)
    expected = ((1 - MEAN) / DEVIATION)[:, None, None].expand(3, 8, 8)
    torch.testing.assert_close(changed.as_subclass(Tensor), expected)


def test_classification_training_takes_shares_of_the_area() -> None:
    """On a ramp from left to right, what the crop spans tells its share of the width."""
    ramp = tv_tensors.Image(torch.arange(128, dtype=torch.uint8).expand(3, 128, 128).contiguous())
    change = transforms.classification_training(size=32, scale=(0.25, 0.25), flip=0.5)
    torch.manual_seed(0)
    spans, mirrored = [], 0
    for _ in range(30):
        changed = change(ramp).as_subclass(Tensor)
        row = (changed[0, 0] * DEVIATION[0] + MEAN[0]) * 255
        spans.append(float((row[-1] - row[0]).abs()) / 128)
        mirrored += bool(row[-1] < row[0])
    assert changed.shape == (3, 32, 32)
    assert 0.4 < min(spans) < max(spans) < 0.6  # half the width, and aspect ratios from 3/4 to 4/3
    assert 5 < mirrored < 25


def test_detection_resizes_by_the_shorter_side_up_to_the_longest() -> None:
    boxes = [[2.0, 4.0, 10.0, 20.0]]
    image, target = transforms.detection_evaluation(side=20, longest=100)(image_of(40, 80), target_of(boxes, (40, 80)))
    assert image.shape == (3, 20, 40)
    assert target["boxes"].tolist() == [[1, 2, 5, 10]]
    image, target = transforms.detection_evaluation(side=20, longest=30)(image_of(40, 80), target_of(boxes, (40, 80)))
    assert image.shape == (3, 15, 30)
    assert (target["image_id"], target["labels"].tolist()) == (5, [1])


def test_detection_normalises_only_if_asked() -> None:
    target = target_of([[2.0, 4.0, 10.0, 20.0]], (40, 80))
    plain, _ = transforms.detection_training(flip=0.0)(image_of(40, 80), target)
    normal, _ = transforms.detection_training(flip=0.0, normalise=True)(image_of(40, 80), target)
    torch.testing.assert_close(plain.as_subclass(Tensor), image_of(40, 80).as_subclass(Tensor) / 255)
    expected = (plain.as_subclass(Tensor) - MEAN[:, None, None]) / DEVIATION[:, None, None]
    torch.testing.assert_close(normal.as_subclass(Tensor), expected)


def test_a_box_that_vanishes_takes_its_entries_along() -> None:
    """Resized to a tenth, the second box is less than a pixel wide."""
    target = target_of([[10.0, 10.0, 60.0, 60.0], [10.0, 10.0, 15.0, 60.0]], (100, 100))
    _, changed = transforms.detection_training(side=10, flip=0.0)(image_of(100, 100), target)
    assert changed["boxes"].tolist() == [[1, 1, 6, 6]]
    assert [len(changed[name]) for name in ("labels", "area", "iscrowd")] == [1, 1, 1]


def test_blur_is_the_binomial_kernel_with_mirrored_edges() -> None:
    draws = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 7, 9), generator=draws, dtype=torch.uint8)
    weights = [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]

    def at(place: int, length: int) -> int:
        return -place if place < 0 else 2 * (length - 1) - place if place >= length else place

    blurred = transforms.Blur()(tv_tensors.Image(image))
    assert isinstance(blurred, tv_tensors.Image)
    assert blurred.dtype == torch.uint8
    for c, y, x in ((0, 0, 0), (1, 3, 4), (2, 6, 1), (0, 5, 8)):
        expected = sum(
            weights[i] * weights[j] * float(image[c, at(y + i - 2, 7), at(x + j - 2, 9)])
            for i in range(5)
            for j in range(5)
        )
        assert float(blurred[c, y, x]) == pytest.approx(expected, abs=0.5)
    assert transforms.Blur()(tv_tensors.Image(image[:, :2])).shape == (3, 2, 9)


def test_segmentation_is_blurred_and_turned_as_often_as_told() -> None:
    """Blurring leaves the mask as it is, and turning does not."""
    image, mask = image_of(24, 24), tv_tensors.Mask(torch.arange(24 * 24).view(24, 24) % 7)

    def changed(**options: float) -> tuple[int, int]:
        change = transforms.segmentation_training(24, (1.0, 1.0), rotation=20, flip=0.0, **options)
        plain = transforms.segmentation_training(24, (1.0, 1.0), flip=0.0)(image, mask)
        torch.manual_seed(0)
        pairs = [change(image, mask) for _ in range(40)]
        return (sum(not torch.equal(one, plain[0]) for one, _ in pairs),
                sum(not torch.equal(other, mask) for _, other in pairs))  # fmt: skip

    assert changed(turn=0.0) == (0, 0)
    assert changed(turn=0.0, blur=1.0) == (40, 0)
    always, blurred, turned = changed(), changed(turn=0.0, blur=0.5), changed(turn=0.5)
    assert always[0] == 40
    assert always[1] > 30  # less than half a pixel moves no label
    assert 10 < blurred[0] < 30
    assert blurred[1] == 0
    assert 10 < turned[0] < 30
    assert 5 < turned[1] <= turned[0]


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    spec = importlib.util.spec_from_file_location("without", transforms.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(MissingExtraError, match=r"torchvision.*aconite\[vision\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
