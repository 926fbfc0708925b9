from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aconite.errors import DataError, MissingExtraError
from aconite.lab.data import load

Make = Callable[..., Path]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_pixels_labels_and_classes(image_folder: Make, mode: str, channels: int) -> None:
    folder = image_folder(mode, size=(9, 12))
    data = load(str(folder))
    assert data.name == "pictures"
    assert data.classes == ("cat", "dog")
    assert data.train_images.shape == (12, channels, 12, 9)
    assert data.train_labels.tolist() == [0] * 6 + [1] * 6
    assert data.flips == (channels == 3)
    with Image.open(folder / "test" / "dog" / "1.png") as image:
        expected = torch.tensor(np.asarray(image)).view(12, 9, channels).permute(2, 0, 1)
    assert torch.equal(data.test_images[4], expected)


def test_val_serves_as_test(image_folder: Make) -> None:
    assert len(load(str(image_folder(test="val"))).test_labels) == 6


def test_resizing_crops_the_middle(image_folder: Make) -> None:
    folder = image_folder("L", size=(32, 8))
    stripes = np.zeros((8, 32), np.uint8)
    stripes[:, 12:20] = 255
    Image.fromarray(stripes).save(folder / "train" / "cat" / "0.png")
    data = load(str(folder), image_size=8)
    assert data.train_images.shape == (12, 1, 8, 8)
    assert (data.train_images[0] == 255).all()


def test_files_that_systems_leave_are_not_images(image_folder: Make) -> None:
    folder = image_folder()
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "train" / "cat" / "Thumbs.db").write_bytes(b"x")
    (folder / "train" / ".cache").mkdir()
    assert len(load(str(folder)).train_labels) == 12


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def only_one_class(folder: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(folder / split / "dog")


def empty_class(folder: Path) -> None:
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no train": (lambda f: shutil.rmtree(f / "train"), "has no folder train"),
    "no test": (lambda f: shutil.rmtree(f / "test"), r"has no folder test \(or val\)"),
    "one class": (only_one_class, "only one class, 'cat'"),
    "no class": (lambda f: (shutil.rmtree(f / "train"), (f / "train").mkdir()), "train holds no class folder"),
    "class missing in test": (lambda f: shutil.move(f / "test/dog", f / "test/fox"), "test lacks the class folder dog"),
    "class missing in train": (
        lambda f: shutil.copytree(f / "test/dog", f / "test/fox"), "train lacks the class folder fox",
    ),
    "empty class": (empty_class, "the class folder .*train/dog is empty"),
    "text": (lambda f: (f / "train/cat/notes.txt").write_text("hi"), "cannot read the image .*notes.txt"),
    "cut off": (lambda f: cut_off(f / "test/cat/2.png"), "cannot read the image .*test/cat/2.png"),
    "folder in a class": (lambda f: (f / "train/cat/more").mkdir(), "cat/more is a folder"),
    "other size": (
        lambda f: Image.new("L", (9, 8)).save(f / "test/dog/0.png"),
        "differ in size: .*train/cat/0.png is 8×8, .*test/dog/0.png is 9×8; pass --image-size",
    ),
    "colour": (
        lambda f: Image.new("RGB", (8, 8)).save(f / "test/dog/0.png"),
        "mixed: .*train/cat/0.png is grayscale, .*test/dog/0.png is not",
    ),
    "16 bits": (lambda f: Image.new("I;16", (8, 8)).save(f / "train/cat/0.png"), "pixels of the kind 'I;16'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line_that_names_the_place(image_folder: Make, fault: str) -> None:
    folder = image_folder()
    make, message = FAULTS[fault]
    make(folder)
    with pytest.raises(DataError, match=message) as raised:
        load(str(folder))
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)


def test_truncated_jpeg(image_folder: Make) -> None:
    folder = image_folder("RGB", size=(32, 32), suffix="jpg")
    path = folder / "train" / "dog" / "3.jpg"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"dog/3.jpg: (?i:truncated)"):
        load(str(folder))


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, 1), (8, 3)])
@pytest.mark.parametrize(
    ("suffix", "options", "loss"),
    [("png", {}, 0), ("tif", {"compression": "tiff_lzw"}, 0), ("jpg", {"quality": 100}, 2)],
)
def test_photos_are_turned_upright(
    image_folder: Make, orientation: int, quarters: int, suffix: str, options: dict[str, Any], loss: int
) -> None:
    """The training images are stored turned, with the EXIF entry that says so; the test images are as they were."""
    folder = image_folder("L", size=(16, 24))
    flat = load(str(folder)).train_images
    for path, image in zip(sorted((folder / "train").rglob("*.png")), flat, strict=True):
        path.unlink()
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(image[0].rot90(quarters).numpy())
        stored.save(path.with_suffix(f".{suffix}"), exif=exif, **options)
    loaded = load(str(folder)).train_images
    assert loaded.shape == flat.shape
    assert (loaded.int() - flat.int()).abs().max() <= loss


def test_a_broken_exif_entry_is_no_orientation(image_folder: Make) -> None:
    folder = image_folder("RGB", suffix="jpg")
    path = folder / "train" / "cat" / "0.jpg"
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=b"Exif\0\0nonsense")
    assert load(str(folder)).train_images.shape == (12, 3, 8, 8)


def test_too_small_to_train_on(image_folder: Make) -> None:
    with pytest.raises(DataError, match="7×9: pass --image-size"):
        load(str(image_folder(size=(7, 9))))


def test_more_than_memory_holds(image_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.data.folder._free_memory", lambda: 1000.0)
    with pytest.raises(DataError, match=r"needs .* GB of memory as 18 images of 8×8"):
        load(str(image_folder()))


def test_missing_pillow(image_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pillow.*aconite\[lab\]"):
        load(str(folder))
