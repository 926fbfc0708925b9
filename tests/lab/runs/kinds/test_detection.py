from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from two_processes import two

from aconite.errors import MissingExtraError
from aconite.lab.runs import DetectionSettings, RunProgress, kind_of, resolve, train
from aconite.lab.runs.kinds.average_precision import AveragePrecision
from aconite.lab.runs.kinds.detection import Boxes, DetectionExperiment
from aconite.nn import AconC

Make = Callable[..., DetectionSettings]
Image = tuple[dict[str, Tensor], dict[str, Any]]

CLASSES = ("cat", "dog", "cow")
IOUS = [0.5 + 0.05 * k for k in range(10)]
SIZES = {"": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}


def area(box: Any) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def overlap(found: Any, there: Any, crowd: bool) -> float:
    width = min(found[2], there[2]) - max(found[0], there[0])
    height = min(found[3], there[3]) - max(found[1], there[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / (area(found) if crowd else area(found) + area(there) - shared))


def restated(images: list[Image], label: int, least: float, size: tuple[float, float]) -> float | None:
    """COCO's rules once more, in plain Python: a class's average precision at an IoU, for objects of a size."""
    marks, asked = list[tuple[float, bool]](), 0
    for found, there in images:
        objects = [
            (box, bool(crowd), bool(crowd) or not size[0] <= float(extent) <= size[1])
            for box, kind, crowd, extent in zip(
                there["boxes"].tolist(), there["labels"], there["iscrowd"], there["area"], strict=True
            )
            if kind == label
        ]
        objects.sort(key=lambda entry: entry[2])
        asked += sum(not ignored for *_, ignored in objects)
        own = [
            (float(score), box)
            for score, box, kind in zip(found["scores"], found["boxes"].tolist(), found["labels"], strict=True)
            if kind == label
        ]
        taken = set[int]()
        for score, box in sorted(own, key=lambda entry: -entry[0])[:100]:
            best, at = min(least, 1 - 1e-10), None
            for number, (target, crowd, ignored) in enumerate(objects):
                if number in taken and not crowd:
                    continue
                if at is not None and not objects[at][2] and ignored:
                    break
                if (iou := overlap(box, target, crowd)) >= best:
                    best, at = iou, number
            if at is not None:
                taken.add(at)
                if not objects[at][2]:
                    marks.append((score, True))
            elif size[0] <= area(box) <= size[1]:
                marks.append((score, False))
    if not asked:
        return None
    right = np.cumsum([hit for _, hit in sorted(marks, key=lambda mark: -mark[0])])
    recall = right / asked
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.mean([envelope[recall >= point].max(initial=0.0) for point in np.linspace(0, 1, 101)]))


def mean(values: list[float | None]) -> float:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else math.nan


def random_images(count: int) -> list[Image]:
    """Objects of all sizes, some of them crowds, and boxes near them, beside them and of another class."""
    draws = np.random.default_rng(3)
    images = []
    for number in range(count):
        corners, sides = draws.uniform(0, 200, (5, 2)), draws.uniform(10, 160, (5, 2))
        boxes = np.concatenate([corners, corners + sides], 1)
        labels = draws.integers(1, 3, 5)  # no cow
        near = np.concatenate([boxes + draws.normal(0, 6, boxes.shape), draws.uniform(0, 90, (3, 4))])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 2)
        guessed = np.concatenate([labels, draws.integers(1, 3, 3)])
        target = {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "labels": torch.tensor(labels),
            "iscrowd": torch.tensor(draws.uniform(size=5) < 0.2).long(),
            "image_id": number,
        }
        target["area"] = torch.tensor([area(box) for box in target["boxes"].tolist()])
        scores = torch.tensor(draws.uniform(size=8), dtype=torch.float32)
        found = {"boxes": torch.tensor(near, dtype=torch.float32), "labels": torch.tensor(guessed), "scores": scores}
        images.append((found, target))
    return images


def test_average_precision_follows_cocos_rules() -> None:
    images = random_images(12)
    meter = AveragePrecision(CLASSES)
    for found, there in images[::-1]:
        meter.add([found], [there])
    figures = meter.figures()
    for end, size in SIZES.items():
        wanted = mean([restated(images, label, iou, size) for label in (1, 2) for iou in IOUS])
        assert figures[f"map{end}"] == pytest.approx(wanted, abs=1e-4), end
    for iou in (50, 75):
        wanted = mean([restated(images, label, iou / 100, SIZES[""]) for label in (1, 2)])
        assert figures[f"map_{iou}"] == pytest.approx(wanted, abs=1e-4)
    for label in (1, 2):
        wanted = mean([restated(images, label, iou, SIZES[""]) for iou in IOUS])
        assert figures[f"ap/{CLASSES[label - 1]}"] == pytest.approx(wanted, abs=1e-4)
    assert math.isnan(figures["ap/cow"])
    assert 0.2 < figures["map"] < 0.9


def target(boxes: list[list[float]], labels: list[int], crowd: int = 0) -> dict[str, Any]:
    made = torch.tensor(boxes).reshape(-1, 4)
    return {
        "boxes": made,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "area": (made[:, 2] - made[:, 0]) * (made[:, 3] - made[:, 1]),
        "iscrowd": torch.full((len(labels),), crowd),
        "image_id": 0,
    }


def found(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


def test_average_precision_of_three_boxes_by_hand() -> None:
    left, right, nowhere = [0.0, 0.0, 40.0, 40.0], [100.0, 0.0, 140.0, 40.0], [0.0, 200.0, 40.0, 240.0]
    meter = AveragePrecision(CLASSES)
    meter.add([found([left, nowhere, right], [1, 1, 1], [0.9, 0.8, 0.7])], [target([left, right], [1, 1])])
    figures = meter.figures()
    # right, wrong, right: up to half of the objects the precision is 1, beyond it 2/3; 51 and 50 of the 101 points
    assert figures["map_50"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)
    assert figures["ap/cat"] == pytest.approx(figures["map"])
    assert math.isnan(figures["map_small"])
    assert math.isnan(figures["map_large"])


def test_a_box_in_a_crowd_is_no_mistake() -> None:
    crowd, inside, other = [0.0, 0.0, 100.0, 100.0], [10.0, 10.0, 30.0, 30.0], [200.0, 0.0, 240.0, 40.0]
    for is_crowd, wanted in ((1, 1.0), (0, 0.25)):
        meter = AveragePrecision(CLASSES)
        there = target([crowd, other], [1, 1])
        there["iscrowd"][0] = is_crowd
        meter.add([found([inside, other], [1, 1], [0.9, 0.8])], [there])
        # as an object it is missed, and the box within it a mistake: half of the objects at a precision of a half
        assert meter.figures()["map_50"] == pytest.approx(wanted, abs=0.01)


def test_no_object_has_no_precision_and_no_box_has_none_of_it() -> None:
    meter = AveragePrecision(CLASSES)
    meter.add([found([], [], [])], [target([], [])])
    assert all(math.isnan(value) for value in meter.figures().values())
    meter.add([found([], [], [])], [target([[0.0, 0.0, 40.0, 40.0]], [1])])
    figures = meter.figures()
    assert figures["map"] == figures["ap/cat"] == 0.0
    assert math.isnan(figures["ap/dog"])


def test_each_measurement_begins_anew() -> None:
    box = [0.0, 0.0, 40.0, 40.0]
    meter = AveragePrecision(CLASSES)
    meter.add([found([], [], [])], [target([box], [1])])
    meter.figures()
    meter.add([found([box], [1], [0.5])], [target([box], [1])])
    assert meter.figures()["map"] == pytest.approx(1.0)


def test_without_a_backend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.runs.kinds.average_precision.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"aconite\[vision\]"):
        AveragePrecision(CLASSES)


def network_of(settings: DetectionSettings) -> Any:
    return kind_of("detection").network(settings, 2, pytest.fail)


def test_the_network_is_what_the_settings_say(detection: Make) -> None:
    torch.manual_seed(0)
    plain = network_of(detection())
    assert plain.transform.min_size == (64,)
    assert not any(isinstance(module, AconC) for module in plain.head.modules())
    other = network_of(
        detection(
            everywhere=True, freeze_norms=True, side=96, longest=128, fpn_channels=24, head_convs=2,
            anchor_sizes=(8, 16, 32, 64, 128), model="mobilenetv2_x0_17", freeze_stem=True, box_beta=0.3,
        )
    )  # fmt: skip
    assert not other.backbone.body.stem.conv.weight.requires_grad
    assert other.backbone.body.stages[2][0].main[0].conv.weight.requires_grad
    assert (plain.head.regression_head.beta, other.head.regression_head.beta) == (0, 0.3)
    assert (other.transform.min_size, other.transform.max_size) == ((96,), 128)
    assert other.anchor_generator.sizes[0] == (8, 10, 12)
    assert other.backbone.out_channels == 24
    assert sum(isinstance(module, AconC) for module in other.head.modules()) == 2 * 2
    norms = [module for module in other.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_a_fused_network_learns_the_same(detection: Make) -> None:
    batch = next(iter(kind_of("detection").open_data(detection()).training(4)))
    losses = []
    for fuse in (False, True):
        torch.manual_seed(0)
        settings = detection(fuse=fuse, freeze_norms=True)
        network = network_of(settings)
        loss, parts, images = DetectionExperiment(network, settings, ("disc", "square")).loss(batch)
        loss.backward()
        assert images == 4
        assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()))
        losses.append((loss.item(), network.backbone.body.stem.conv.weight.grad.norm().item()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_images_without_objects_can_be_learnt(detection: Make) -> None:
    settings = detection()
    experiment = DetectionExperiment(network_of(settings), settings, ("disc", "square"))
    loss, parts, _ = experiment.loss(([torch.rand(3, 64, 64)] * 2, [target([], []), target([], [])]))
    assert loss.isfinite()
    assert parts["bbox_regression"] == 0


def test_the_papers_recipe_takes_coco_as_it_is(boxes_folder: Path, tmp_path: Path) -> None:
    """Which has images without objects, and boxes without height."""
    data = tmp_path / "coco"
    shutil.copytree(boxes_folder, data)
    for part, seed in (("train", 0), ("val", 8)):
        file = data / "annotations" / f"instances_{part}2017.json"
        content = json.loads(file.read_text())
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != seed]
        content["annotations"][0]["bbox"] = [5.0, 20.0, 1.03, 0.0]
        file.write_text(json.dumps(content))
    settings = resolve("detection", recipe="paper-retinanet", given={"data": str(data), "workers": 0})
    found = kind_of("detection").open_data(settings).found
    assert (len(found.train), len(found.test)) == (7, 3)
    assert sorted(problem.kind for problem in found.problems) == ["degenerate-box"] * 2 + ["empty-annotation"] * 2


class _Stops(RunProgress):
    """As a killed process: ends in the middle of the second epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")


def test_a_run_that_was_cut_off_comes_to_the_same_weights(detection: Make, tmp_path: Path) -> None:
    settings = detection(epochs=2, flip=0.5, model="mobilenetv2_x0_17", freeze_stem=True, box_beta=0.11)
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(settings, tmp_path / "cut", _Stops())
    assert not (tmp_path / "cut" / "weights.pt").exists()
    cut = train(settings, tmp_path / "cut")
    one, other = (torch.load(run.folder / "weights.pt", weights_only=True) for run in (whole, cut))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    rows = [{name: value for name, value in run.row.items() if name != "timing"} for run in (whole, cut)]
    assert rows[0] == rows[1]
    assert json.loads((whole.folder / "rows.jsonl").read_text())["map_small"] is not None
    assert rows[0]["map_large"] is None  # no object is so large
    assert {"map", "map_50", "map_75", "ap/disc", "ap/square", "train_loss"} <= rows[0].keys()


def test_two_processes_with_a_frozen_stem_train_what_one_does(detection: Make, tmp_path: Path) -> None:
    settings = detection(model="mobilenetv2_x0_17", freeze_stem=True, freeze_norms=True, lr=0.001)
    notes: list[str] = []
    progress = RunProgress()
    progress.note = notes.append  # type: ignore[method-assign]
    alone = train(settings, tmp_path / "alone", progress)
    assert [note.partition(" without weights")[0] for note in notes] == ["freeze_norms", "freeze_stem"]

    def work(rank: int) -> int:
        train(settings, tmp_path / "together")
        return 0

    assert two(work) == [0, 0]
    one, other = (
        torch.load(folder / "weights.pt", weights_only=True) for folder in (alone.folder, tmp_path / "together")
    )
    torch.manual_seed(settings.seed)
    first = network_of(settings)
    fixed = {name for name, parameter in first.named_parameters() if not parameter.requires_grad}
    for name, value in first.state_dict().items():
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-6)
        if name in fixed:
            assert torch.equal(one[name], value)
    assert not torch.equal(one["head.regression_head.bbox_reg.weight"], first.head.regression_head.bbox_reg.weight)


def test_boxes_as_record_and_picture() -> None:
    frames = torch.tensor([[4.0, 2.0, 30.0, 20.0], [0.0, 0.0, 9.0, 9.0]])
    boxes = Boxes(("cat", "dog"), torch.tensor([2, 1]), torch.tensor([0.75, 0.25]), frames)
    assert boxes.record()["boxes"][0] == {"label": "dog", "score": 0.75, "box": [4.0, 2.0, 30.0, 20.0]}
    assert [entry["label"] for entry in boxes.above(0.5).record()["boxes"]] == ["dog"]
    image = torch.full((3, 40, 60), 128, dtype=torch.uint8)
    drawn = boxes.above(0.5).picture(image)
    changed = (drawn != image).any(0)
    assert changed[20, 5:30].all()  # the lower edge
    assert not changed[25:].any()
    assert torch.equal(boxes.above(0.9).picture(image), image)


class _Says(nn.Module):
    """Finds what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert images[0].amax() <= 1
        return [found([[0.0, 0, 9, 9], [4, 2, 30, 20]], [1, 2], [0.25, 0.75])]


def test_a_prediction_has_the_surest_first(detection: Make) -> None:
    image = torch.full((3, 40, 60), 255, dtype=torch.uint8)
    said = kind_of("detection").predict(_Says(), detection(), ("cat", "dog"), image)
    assert [entry["label"] for entry in said.record()["boxes"]] == ["dog", "cat"]
