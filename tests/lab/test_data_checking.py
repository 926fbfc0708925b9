from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aconite.errors import DataError, UnknownNameError
from aconite.lab.data import check_data, find_task

Make = Callable[..., Path]


def spoiled(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def also_in_train(folder: Path) -> None:
    (folder / "train" / "fox").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "train" / "fox" / "0.png")


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated": (lambda f: spoiled(f / "train/cat/3.png"), "truncated-image", "train/cat/3.png"),
    "text": (lambda f: (f / "test/dog/notes.txt").write_text("hi"), "unreadable-image", "test/dog/notes.txt"),
    "class missing in test": (also_in_train, "missing-class", "test/fox"),
    "class missing in train": (lambda f: (f / "train/dog").rename(f / "rest"), "missing-class", "train/dog"),
    "empty class": (lambda f: emptied(f / "train/dog"), "empty-class", "train/dog"),
    "folder in a class": (lambda f: (f / "train/dog/more").mkdir(), "misplaced", "train/dog/more"),
    "beside the classes": (lambda f: (f / "train/dog/0.png").rename(f / "train/0.png"), "misplaced", "train"),
    "gray among colour": (lambda f: Image.new("L", (8, 8)).save(f / "test/cat/0.png"), "wrong-mode", "test/cat/0.png"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_class_folders(image_folder: Make, fault: str) -> None:
    folder = image_folder("RGB")
    assert check_data(folder).problems == ()
    spoil, kind, file = FAULTS[fault]
    spoil(folder)
    found = json.loads(check_data(folder).json())
    assert [(problem["kind"], problem["file"]) for problem in found["problems"]] == [(kind, file)]
    assert found["counts"] == {kind: 1}


def test_a_sound_folder(image_folder: Make) -> None:
    found = check_data(image_folder(test="val"))
    assert (found.task, found.layout, found.classes) == ("classification", "class folders", ("cat", "dog"))
    assert found.parts == {"train": {"images": 12}, "val": {"images": 6}}
    assert found.text().endswith("\n\nno problems")


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    for part in ("train", "val"):
        for synset in ("n01440764", "n01443537"):
            (tmp_path / part / synset).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / synset / "0.JPEG")
    return tmp_path


def test_imagenet(imagenet: Path) -> None:
    Image.new("L", (8, 8)).save(imagenet / "train/n01440764/1.JPEG")  # ImageNet has some: no problem
    assert (check_data(imagenet).layout, check_data(imagenet).problems) == ("ImageNet", ())
    (imagenet / "val/n01443537").rename(imagenet / "val/fish")
    told = {problem.path.name: problem.reason for problem in check_data(imagenet).problems}
    assert sorted(told) == ["fish", "n01443537"]
    assert "no synset" in told["fish"]


def test_imagenet_with_a_validation_part_as_it_is_unpacked(imagenet: Path) -> None:
    for synset in ("n01440764", "n01443537"):
        (imagenet / "val" / synset / "0.JPEG").rename(imagenet / "val" / f"ILSVRC2012_val_{synset[-4:]}.JPEG")
        (imagenet / "val" / synset).rmdir()
    found = check_data(imagenet).problems
    assert [problem.kind for problem in found] == ["misplaced", "missing-class", "missing-class"]
    assert "images lie here (2, such as ILSVRC2012_val_0764.JPEG): sort them into val/<synset>/" in found[0].reason


def test_the_layout_tells_the_task(image_folder: Make, tmp_path: Path) -> None:
    folder = image_folder()
    assert find_task(folder) == "classification"
    (folder / "notes.json").write_text("[1, 2]")  # not COCO's
    assert find_task(folder) == "classification"
    mask_folder = tmp_path / "masks"
    for name in ("train/images", "train/masks", "val/images", "val/masks"):
        (mask_folder / name).mkdir(parents=True)
    assert find_task(mask_folder) == "segmentation"
    coco = tmp_path / "coco"
    coco.mkdir()
    (coco / "all.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert find_task(coco) == "detection"


def test_what_is_no_data_set(image_folder: Make, tmp_path: Path) -> None:
    folder = image_folder()
    with pytest.raises(DataError, match="no data at"):
        check_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a data set for detection: expected Annotations"):
        check_data(folder, "detection")
    with pytest.raises(DataError, match=r"is not a data set: expected Annotations.*leftImg8bit.*train/<class>"):
        check_data(tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'detection'"):
        check_data(folder, "detektion")


def test_full_decodes_every_image(image_folder: Make) -> None:
    folder = image_folder("RGB", size=(64, 64))
    path = folder / "train" / "cat" / "2.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert check_data(folder).problems == ()
    assert [problem.path for problem in check_data(folder, full=True, workers=2).problems] == [path]


def test_the_text_lists_by_kind_and_counts(image_folder: Make) -> None:
    folder = image_folder("RGB")
    for name in ("train/cat/1.png", "train/cat/4.png"):
        spoiled(folder / name)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "test/dog/1.png")
    lines = check_data(folder).text().splitlines()
    assert lines[0] == f"{folder}: classification, class folders; 2 classes: cat, dog"
    assert lines[4] == "truncated image"
    assert [line.split(":")[0].strip() for line in lines[5:7]] == ["train/cat/1.png", "train/cat/4.png"]
    assert lines[8] == "wrong kind of pixels"
    assert lines[-1] == "3 problems: 2× truncated image, 1× wrong kind of pixels"
