from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aconite.lab.runs import DetectionSettings, SegmentationSettings, resolve

SIDE = 64
CLASSES = ("disc", "square")


def _image(seed: int) -> tuple[Any, list[tuple[int, tuple[int, int, int, int]]], Any]:
    """A green disc and a red square on grey noise: pixels, objects (label from 0, box), mask (2 beside them)."""
    draws = np.random.default_rng(seed)
    pixels = draws.integers(60, 120, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = np.full((SIDE, SIDE), 2, np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    objects = []
    for label in range(2):
        side = int(draws.integers(16, 26))
        left = int(draws.integers(0, 32 - side, endpoint=True)) + 32 * label
        top = int(draws.integers(0, SIDE - side))
        inside = (columns >= left) & (columns < left + side) & (rows >= top) & (rows < top + side)
        if label == 0:
            inside &= (columns + 0.5 - left - side / 2) ** 2 + (rows + 0.5 - top - side / 2) ** 2 <= side**2 / 4
        pixels[inside] = ((40, 220, 40), (230, 30, 30))[label]
        mask[inside] = label
        objects.append((label, (left, top, side, side)))
    return pixels, objects, mask


@pytest.fixture(scope="session")
def boxes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout: eight training images and three others, each with a disc and a square."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    (folder / "annotations").mkdir(parents=True)
    for part, seeds in (("train2017", range(8)), ("val2017", range(8, 11))):
        (folder / part).mkdir()
        content: dict[str, list[Any]] = {"images": [], "annotations": []}
        for seed in seeds:
            pixels, objects, _ = _image(seed)
            Image.fromarray(pixels).save(folder / part / f"{seed}.png")
            content["images"].append({"id": seed, "file_name": f"{seed}.png", "width": SIDE, "height": SIDE})
            content["annotations"] += [
                {"id": 2 * seed + label, "image_id": seed, "category_id": label + 1, "iscrowd": 0, "bbox": box}
                for label, box in objects
            ]
        content["categories"] = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def masks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training images and three others; what is neither disc nor square is "ground"."""
    folder = tmp_path_factory.mktemp("data") / "regions"
    for part, seeds in (("train", range(8)), ("val", range(8, 11))):
        for name in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
        for seed in seeds:
            pixels, _, mask = _image(seed)
            Image.fromarray(pixels).save(folder / part / "images" / f"{seed}.png")
            Image.fromarray(mask).save(folder / part / "masks" / f"{seed}.png")
    (folder / "classes.txt").write_text("\n".join((*CLASSES, "ground")))
    return folder


@pytest.fixture(scope="session")
def detection(boxes_folder: Path) -> Callable[..., DetectionSettings]:
    """Settings of a training of a second."""
    small = {"side": SIDE, "fpn_channels": 16, "head_convs": 1}
    return lambda **changes: _settings("detection", boxes_folder, **(small | changes))


@pytest.fixture(scope="session")
def segmentation(masks_folder: Path) -> Callable[..., SegmentationSettings]:
    """Settings of a training of a second."""
    small = {"crop": (65, 65), "head_width": 16}
    return lambda **changes: _settings("segmentation", masks_folder, **(small | changes))


def _settings(task: str, data: Path, **changes: object) -> Any:
    options: dict[str, object] = {
        "data": str(data), "model": "shufflenetv2_x0_5", "activation": "acon-c", "epochs": 1, "batch_size": 4,
        "warmup": 0, "accelerator": "cpu", "loggers": (),
    }  # fmt: skip
    return resolve(task, given=options | changes)
