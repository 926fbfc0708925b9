from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from aconite.errors import DataError, SettingsError
from aconite.lab.data.boxes import check_boxes
from aconite.lab.data.coco import is_coco, read_coco
from aconite.lab.data.detection import detection_batches, detection_data, detection_evaluation_batches
from aconite.lab.data.transforms import detection_evaluation, detection_training
from aconite.lab.data.voc import is_voc, read_voc

WIDTH, HEIGHT = 40, 30
Box = tuple[str, float, float, float, float]  # class, xmin, ymin, xmax, ymax


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def voc_xml(boxes: list[Box], difficult: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Six training images a0…a5 and two for evaluation b0, b1, each with a cat and a dog."""
    folder = tmp_path / "voc"
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    parts = {"train": [f"a{k}" for k in range(6)], "val": ["b0", "b1"]}
    for part, stems in parts.items():
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(stems) + "\n")
        for number, stem in enumerate(stems):
            picture(folder / "JPEGImages" / f"{stem}.jpg", number)
            boxes: list[Box] = [("dog", 1, 1, 10, 20), ("cat", 11, 5, 40, 30)]
            (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml(boxes))
    return folder


def coco_content(names: list[str]) -> dict[str, Any]:
    images = [{"id": 7 + k, "file_name": name, "width": WIDTH, "height": HEIGHT} for k, name in enumerate(names)]
    annotations = [
        {"id": 2 * k + n, "image_id": image["id"], "category_id": (3, 90)[n], "bbox": [4.5, 2, 10, 20], "iscrowd": 0}
        for k, image in enumerate(images)
        for n in range(2)
    ]
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for part, count in (("train2017", 4), ("val2017", 2)):
        names = [f"{part[0]}{k}.jpg" for k in range(count)]
        for k, name in enumerate(names):
            picture(folder / part / name, k)
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco_content(names)))
    return folder


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def kinds(folder: Path, **options: Any) -> Counter[str]:
    source = (read_voc if is_voc(folder) else read_coco)(folder)
    return Counter(problem.kind for problem in check_boxes(source, allow_empty=False, **options)[1])


def test_coco_objects_have_the_area_of_their_outline(coco: Path) -> None:
    path = coco / "annotations" / "instances_val2017.json"
    change(path, lambda content: [entry.update(area=7.5) for entry in content["annotations"][:1]])
    annotated, boxed = json.loads(path.read_text())["annotations"][:2]
    areas = torch.cat([target["area"] for _, target in (detection_data(coco).test[k] for k in range(2))]).tolist()
    assert annotated["area"] == 7.5
    assert 7.5 in areas
    assert boxed["bbox"][2] * boxed["bbox"][3] in areas


def test_voc_counts_from_one_and_includes_the_last_pixel(voc: Path) -> None:
    data = detection_data(voc)
    assert (data.name, data.classes, len(data.train), len(data.test), data.problems) == (
        "voc",
        ("cat", "dog"),
        6,
        2,
        (),
    )
    image, target = data.test[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[0, 0, 10, 20], [10, 4, 40, 30]]
    assert target["labels"].tolist() == [2, 1]
    assert target["area"].tolist() == [200, 30 * 26]
    assert target["image_id"] == 0
    assert (image.dtype, image.shape, float(image.max()) <= 1) == (torch.float32, (3, HEIGHT, WIDTH), True)


def test_difficult_objects_are_for_evaluation_only_and_are_marked(voc: Path) -> None:
    for stem in ("a0", "b0"):
        (voc / "Annotations" / f"{stem}.xml").write_text(voc_xml([("dog", 1, 1, 10, 20)], difficult=1))
    data = detection_data(voc)
    assert len(data.train) == 5
    assert data.test[0][1]["iscrowd"].tolist() == [1]
    assert data.test[1][1]["iscrowd"].tolist() == [0, 0]


def test_coco_categories_become_labels_from_one(coco: Path) -> None:
    data = detection_data(coco)
    assert (data.classes, len(data.train), len(data.test)) == (("car", "toothbrush"), 4, 2)
    target = data.test[1][1]
    assert target["boxes"].tolist() == [[4.5, 2, 14.5, 22]] * 2
    assert target["labels"].tolist() == [1, 2]


def test_a_plain_pair_is_divided(tmp_path: Path) -> None:
    names = [f"{k}.png" for k in range(10)]
    for k, name in enumerate(names):
        picture(tmp_path / "images" / name, k)
    (tmp_path / "labels.json").write_text(json.dumps(coco_content(names)))
    data = detection_data(tmp_path)
    assert [path.name for path in data.test.paths] == ["4.png", "9.png"]
    assert len(data.train) == 8


def test_a_json_beside_the_images_of_each_part(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        picture(tmp_path / part / "x.jpg")
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(coco_content(["x.jpg"])))
    data = detection_data(tmp_path)
    assert data.test.paths == [tmp_path / "valid" / "x.jpg"]
    assert not is_coco(tmp_path / "train" / "nothing")


def test_the_content_changes_with_a_box_and_not_with_the_place(voc: Path, tmp_path: Path) -> None:
    before = detection_data(voc).content
    moved = voc.rename(tmp_path / "moved")
    assert detection_data(moved).content == before
    (moved / "Annotations" / "b1.xml").write_text(voc_xml([("dog", 1, 1, 10, 21), ("cat", 11, 5, 40, 30)]))
    assert detection_data(moved).content != before


def write_box(*boxes: Box, **options: Any) -> Callable[[Path], object]:
    return lambda voc: (voc / "Annotations" / "a1.xml").write_text(voc_xml(list(boxes), **options))


FAULTS: dict[str, tuple[Callable[[Path], object], str, int]] = {  # → kind, training images that stay
    "no image": (lambda f: (f / "JPEGImages/a1.jpg").unlink(), "missing-file", 5),
    "no xml": (lambda f: (f / "Annotations/a1.xml").unlink(), "no-annotation", 5),
    "broken xml": (lambda f: (f / "Annotations/a1.xml").write_text("<annotation>"), "broken-annotation", 5),
    "no number": (write_box(("cat", "left", 1, 9, 9)), "broken-annotation", 5),  # type: ignore[arg-type]
    "nan": (write_box(("cat", float("nan"), 1, 9, 9)), "broken-annotation", 5),
    "no object": (write_box(), "empty-annotation", 5),
    "wrong size": (write_box(("cat", 1, 1, 9, 9), size=(HEIGHT, WIDTH)), "size-mismatch", 5),
    "truncated": (lambda f: (p := f / "JPEGImages/a1.jpg").write_bytes(p.read_bytes()[:-200]), "truncated-image", 5),
    "text": (lambda f: (f / "JPEGImages/a1.jpg").write_text("hello"), "unreadable-image", 5),
    "outside": (write_box(("cat", 20, 1, 60, 9)), "box-outside", 6),
    "far outside": (write_box(("cat", 80, 1, 90, 9)), "box-outside", 5),
    "degenerate": (write_box(("cat", 1, 1, 9, 9), ("dog", 9, 9, 9, 12)), "degenerate-box", 6),
    "turned over": (write_box(("cat", 9, 9, 1, 1)), "degenerate-box", 5),
    "unlisted": (lambda f: picture(f / "JPEGImages/c.jpg"), "no-annotation", 6),
    "same stem": (lambda f: picture(f / "JPEGImages/a1.png"), "duplicate-name", 6),
    "in both parts": (lambda f: (f / "ImageSets/Main/val.txt").write_text("b0\na1\nb1"), "duplicate-name", 6),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_voc(voc: Path, fault: str) -> None:
    spoil, kind, left = FAULTS[fault]
    spoil(voc)
    assert kinds(voc) == {kind: 1}
    with pytest.raises(DataError, match=r"a1|b0|c\.jpg"):
        detection_data(voc)
    data = detection_data(voc, problems="skip")
    assert [problem.kind for problem in data.problems] == [kind]
    assert len(data.train) == left
    for _, target in (data.train[k] for k in range(left)):
        assert len(target["boxes"]) >= 1
        assert (target["boxes"][:, 2:] <= torch.tensor([WIDTH, HEIGHT])).all()


def test_a_class_that_training_does_not_know(voc: Path) -> None:
    (voc / "Annotations/b1.xml").write_text(voc_xml([("fox", 1, 1, 9, 9), ("cat", 1, 1, 9, 9)]))
    assert kinds(voc) == {"unknown-class": 1}
    assert len(detection_data(voc, problems="skip").test[1][1]["labels"]) == 1
    (voc / "classes.txt").write_text("fox\ndog\ncat\n")
    data = detection_data(voc)
    assert data.classes == ("fox", "dog", "cat")
    assert data.test[1][1]["labels"].tolist() == [1, 3]


COCO_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown category": (lambda c: c["annotations"][0].update(category_id=4), "unknown-class"),
    "no bbox": (lambda c: c["annotations"][0].pop("bbox"), "broken-annotation"),
    "three numbers": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "broken-annotation"),
    "image not listed": (lambda c: c["annotations"][0].update(image_id=99), "missing-file"),
    "no objects": (lambda c: c.update(annotations=c["annotations"][2:]), "empty-annotation"),
    "same name": (lambda c: c["images"].append(c["images"][0] | {"id": 99}), "duplicate-name"),
    "no file name": (lambda c: c["images"].append({"id": 99}), "broken-annotation"),
    "no file": (lambda c: c["images"].append(c["images"][0] | {"id": 99, "file_name": "no.jpg"}), "missing-file"),
    "same category": (lambda c: c["categories"].append({"id": 91, "name": "car"}), "duplicate-name"),
    "image not in json": (
        lambda c: c.update(images=c["images"][:3], annotations=c["annotations"][:6]),
        "no-annotation",
    ),
    "negative": (lambda c: c["annotations"][0].update(bbox=[-5, 2, 10, 10]), "box-outside"),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_faults_of_coco(coco: Path, fault: str) -> None:
    edit, kind = COCO_FAULTS[fault]
    change(coco / "annotations" / "instances_train2017.json", edit)
    assert kinds(coco) == {kind: 1}
    data = detection_data(coco, problems="skip")
    assert len(data.train) >= 3


def test_an_image_in_both_parts_of_coco(coco: Path) -> None:
    for part in ("train", "val"):
        (coco / "annotations" / f"instances_{part}2017.json").rename(coco / f"{part}.json")
    (coco / "train2017").rename(coco / "images")
    (coco / "val.json").write_text((coco / "train.json").read_text())
    assert kinds(coco) == {"duplicate-name": 4}


def test_images_without_objects_are_a_matter_of_choice(voc: Path) -> None:
    for stem in ("a0", "b0"):
        (voc / "Annotations" / f"{stem}.xml").write_text(voc_xml([]))
    skipped, allowed = detection_data(voc, problems="skip"), detection_data(voc, allow_empty=True)
    assert (len(skipped.train), len(skipped.test)) == (5, 2)
    assert (len(allowed.train), len(allowed.test), allowed.problems) == (6, 2, ())
    assert allowed.train[0][1]["boxes"].shape == (0, 4)


def test_mistakes_are_told(tmp_path: Path, voc: Path, coco: Path) -> None:
    with pytest.raises(SettingsError, match="choose skip"):
        detection_data(voc, problems="ignore")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="neither Pascal VOC nor COCO"):
        detection_data(tmp_path)
    with pytest.raises(DataError, match="nowhere: name the folder"):
        detection_data(tmp_path / "nowhere")
    (coco / "annotations" / "instances_val2017.json").write_text("{}")
    with pytest.raises(DataError, match="needs the lists images, annotations and categories"):
        detection_data(coco)
    (voc / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DataError, match=r"needs train.txt and val.txt"):
        detection_data(voc)


def test_all_boxes_lost_is_an_error_of_its_own(voc: Path) -> None:
    for path in (voc / "Annotations").glob("a*.xml"):
        path.write_text(voc_xml([("cat", 9, 9, 9, 9)]))
    with pytest.raises(DataError, match="no usable image for train"):
        detection_data(voc, problems="skip")


def epoch_of(data: Any, seed: int, epoch: int, workers: int = 0) -> list[Any]:
    loader = detection_batches(data.train, 2, seed, workers=workers)
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [(image, target) for batch in loader for image, target in zip(*batch, strict=True)]


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        a[0].shape == b[0].shape and torch.equal(a[0], b[0]) and torch.equal(a[1]["boxes"], b[1]["boxes"])
        for a, b in zip(first, second, strict=True)
    )


def test_order_and_augmentation_come_from_seed_epoch_and_index_alone(voc: Path) -> None:
    data = detection_data(voc, train_transform=detection_training(side=(16, 20, 24), longest=60))
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = epoch_of(data, seed=0, epoch=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(first, epoch_of(data, seed=0, epoch=3))
    assert same(first, epoch_of(data, seed=0, epoch=3, workers=2))
    assert not same(first, epoch_of(data, seed=0, epoch=4))
    assert not same(first, epoch_of(data, seed=1, epoch=3))
    assert {min(image.shape[1:]) for epoch in range(4) for image, _ in epoch_of(data, 0, epoch)} == {16, 20, 24}


def test_boxes_follow_the_image(voc: Path) -> None:
    plain = detection_data(voc, train_transform=detection_training(flip=0.0))
    flipped = detection_data(voc, train_transform=detection_training(side=60, flip=1.0))
    image, target = plain.train[(0, 0)]
    mirrored, twice = flipped.train[(0, 0)]
    assert mirrored.shape == (3, 60, 80)
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    expected = 2 * torch.stack([WIDTH - x2, y1, WIDTH - x1, y2], 1)
    torch.testing.assert_close(twice["boxes"].as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))
    assert isinstance(image, tv_tensors.Image)


def test_processes_share_the_images(voc: Path) -> None:
    data = detection_data(voc)
    parts = [detection_batches(data.train, 1, 0, rank=rank, ranks=2) for rank in range(2)]
    seen = [[target["image_id"] for _, targets in part for target in targets] for part in parts]
    assert sorted(seen[0] + seen[1]) == list(range(6))
    assert len(seen[0]) == len(seen[1]) == 3
    tested = [detection_evaluation_batches(data.test, 4, rank=rank, ranks=2) for rank in range(2)]
    assert [[t["image_id"] for _, targets in part for t in targets] for part in tested] == [[0], [1]]


def test_a_file_that_breaks_during_the_run(voc: Path) -> None:
    skip, stop = detection_data(voc, problems="skip"), detection_data(voc)
    (voc / "JPEGImages/a1.jpg").write_bytes((voc / "JPEGImages/a1.jpg").read_bytes()[:-300])
    with pytest.warns(UserWarning, match=r"skipped .*a1\.jpg: .*truncated"):
        assert skip.train[1][1]["image_id"] == 2
    assert [path.name for path in skip.train.found] == ["a1.jpg"]
    assert skip.train.met.nonzero().tolist() == [[1]]
    with pytest.raises(DataError, match=r"a1\.jpg.*problems skip"):
        stop.train[1]
    for path in (voc / "JPEGImages").glob("a*.jpg"):
        path.unlink()
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(DataError, match="none of the 6 images"):
        skip.train[0]


def test_a_retinanet_of_torchvision_takes_the_batches(voc: Path) -> None:
    from torchvision.models.detection import retinanet_resnet50_fpn

    (voc / "Annotations" / "a0.xml").write_text(voc_xml([]))
    data = detection_data(voc, allow_empty=True, test_transform=detection_evaluation(side=20))
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, min_size=32, max_size=48)
    images, targets = next(iter(detection_batches(data.train, 6, seed=0)))
    losses = model(images, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    images, _ = next(iter(detection_evaluation_batches(data.test, 2)))
    assert [min(image.shape[1:]) for image in images] == [20, 20]
