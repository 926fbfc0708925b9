from __future__ import annotations

import warnings
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
from aconite.lab.data.checking import check_data
from aconite.lab.data.cityscapes import CLASSES
from aconite.lab.data.segmentation import (
    IGNORED,
    segmentation_batches,
    segmentation_data,
    segmentation_evaluation_batches,
)
from aconite.lab.data.transforms import segmentation_evaluation, segmentation_training

WIDTH, HEIGHT = 24, 16


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pair(image: Path, mask: Path, number: int, values: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """The red channel is 50 × the mask's value, so that a picture tells where its mask has to be."""
    draws = np.random.default_rng(number)
    labels = draws.integers(0, values, (size[0] // 4, size[1] // 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    pixels = np.stack([50 * labels, labels * 0 + number, labels * 0], -1).astype(np.uint8)
    save(image, pixels)
    save(mask, labels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five training images and two for evaluation, with the values 0, 1, 2."""
    for part, count in (("train", 5), ("val", 2)):
        for number in range(count):
            place = tmp_path / "street" / part
            pair(place / "images" / f"{number}.png", place / "masks" / f"{number}.png", number)
    return tmp_path / "street"


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for part, city in (("train", "ulm"), ("train", "bonn"), ("val", "lindau")):
        name = f"{city}_000000_000019"
        image = tmp_path / "city" / "leftImg8bit" / part / city / f"{name}_leftImg8bit.png"
        mask = tmp_path / "city" / "gtFine" / part / city / f"{name}_gtFine_labelIds.png"
        pair(image, mask, 0)
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids.flat[:36] = [*range(34), 255, 7]
        save(mask, ids)
    return tmp_path / "city"


def kinds(folder: Path, **options: Any) -> Counter[str]:
    return Counter(problem.kind for problem in check_data(folder, **options).problems)


def test_images_and_masks(folder: Path) -> None:
    data = segmentation_data(folder, crop=8)
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("street", ("0", "1", "2"), 5, 2)
    image, mask = data.test.read(1)
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(mask, tv_tensors.Mask)
    assert (image.dtype, image.shape, mask.dtype, mask.shape) == (
        torch.uint8, (3, HEIGHT, WIDTH), torch.int64, (HEIGHT, WIDTH),
    )  # fmt: skip
    assert torch.equal(image[0], 50 * mask)


def test_names_and_the_ignored_value(folder: Path) -> None:
    assert segmentation_data(folder, ignore_index=2).classes == ("0", "1")
    (folder / "classes.txt").write_text("road\nsky\n")
    with pytest.raises(DataError, match=r"mask value beyond the classes|holds 2"):
        segmentation_data(folder, full=True)
    data = segmentation_data(folder, ignore_index=2)
    assert data.classes == ("road", "sky")
    image, mask = data.test.read(0)
    assert torch.equal(mask, torch.where(image[0] == 100, IGNORED, image[0].long() // 50))


def test_the_nineteen_classes_of_cityscapes(cityscapes: Path) -> None:
    data = segmentation_data(cityscapes, crop=8)
    assert (data.classes, len(data.train), len(data.test)) == (CLASSES, 2, 1)
    assert [path.parent.name for path in data.train.paths] == ["bonn", "ulm"]
    _, mask = data.test.read(0)
    by_id = dict(zip(range(34), mask.flatten()[:34].tolist(), strict=True))
    kept = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
            28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    assert by_id == {number: kept.get(number, IGNORED) for number in range(34)}
    assert mask.flatten()[34:36].tolist() == [IGNORED, 0]
    assert (CLASSES[5], CLASSES[11], CLASSES[18]) == ("pole", "person", "bicycle")


FAULTS: dict[str, tuple[Callable[[Path], object], str, int]] = {  # → kind, training images that stay
    "no mask": (lambda f: (f / "masks/1.png").unlink(), "no-annotation", 4),
    "no image": (lambda f: (f / "images/1.png").unlink(), "missing-file", 4),
    "other size": (lambda f: save(f / "masks/1.png", np.zeros((WIDTH, HEIGHT), np.uint8)), "size-mismatch", 4),
    "colours": (lambda f: save(f / "masks/1.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "wrong-mode", 4),
    "deep image": (lambda f: save(f / "images/1.png", np.zeros((HEIGHT, WIDTH), np.uint16)), "wrong-mode", 4),
    "beyond": (lambda f: save(f / "masks/1.png", np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 3), "mask-value", 5),
    "far beyond": (lambda f: save(f / "masks/1.png", np.eye(HEIGHT, WIDTH, dtype=np.uint16) * 999), "mask-value", 5),
    "nothing": (lambda f: save(f / "masks/1.png", np.full((HEIGHT, WIDTH), 255, np.uint8)), "empty-annotation", 4),
    "truncated": (lambda f: (p := f / "images/1.png").write_bytes(p.read_bytes()[:-40]), "truncated-image", 4),
    "truncated mask": (lambda f: (p := f / "masks/1.png").write_bytes(p.read_bytes()[:-20]), "truncated-image", 4),
    "same stem": (lambda f: save(f / "images/1.bmp", np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "duplicate-name", 5),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(folder: Path, fault: str) -> None:
    spoil, kind, left = FAULTS[fault]
    (folder / "classes.txt").write_text("a\nb\nc\n")
    spoil(folder / "train")
    found = check_data(folder)
    assert [problem.kind for problem in found.problems] == [kind]
    assert found.problems[0].path.stem == "1"
    with pytest.raises(DataError, match=r"/1\.(png|bmp)"):
        segmentation_data(folder, crop=8, full=True)
    data = segmentation_data(folder, crop=8, problems="skip", full=True)
    assert ([problem.kind for problem in data.problems], len(data.train)) == ([kind], left)
    with warnings.catch_warnings(action="error"):  # what has been told is not told again
        for images, masks in segmentation_evaluation_batches(data.train, 4):
            assert len(images) == len(masks)
            assert ((masks < 3) | (masks == IGNORED)).all()
    assert data.train.met.sum() == 0


def test_faults_of_cityscapes(cityscapes: Path) -> None:
    assert kinds(cityscapes) == {}
    mask = cityscapes / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png"
    save(mask, np.full((HEIGHT, WIDTH), 40, np.uint8))
    assert kinds(cityscapes) == {}
    assert kinds(cityscapes, full=True) == {"mask-value": 1}
    mask.rename(mask.with_name("ulm_1_gtFine_labelIds.png"))
    assert kinds(cityscapes) == {"no-annotation": 1, "missing-file": 1}


def test_values_that_only_the_run_meets(folder: Path) -> None:
    """With names known, masks are not decoded at the start."""
    (folder / "classes.txt").write_text("a\nb\n")
    skip, stop = segmentation_data(folder, problems="skip"), segmentation_data(folder)
    with pytest.warns(UserWarning, match=r"skipped .*masks/0\.png"):
        image, mask = skip.test.read(0)
    assert torch.equal(mask == IGNORED, image[0] == 100)
    assert skip.test.met.nonzero().tolist() == [[0]]
    with pytest.raises(DataError, match=r"masks/0\.png.*beyond"):
        stop.test[0]


def test_mistakes_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="from 0 to 255"):
        segmentation_data(folder, ignore_index=-100)
    (folder / "classes.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match="'a' twice"):
        segmentation_data(folder)
    with pytest.raises(DataError, match="neither train/images"):
        segmentation_data(tmp_path)
    with pytest.raises(DataError, match="nowhere: name the folder"):
        segmentation_data(tmp_path / "nowhere")
    (folder / "val").rename(folder / "later")
    with pytest.raises(DataError, match="no val/images"):
        segmentation_data(folder)


def test_the_mask_follows_the_image(folder: Path) -> None:
    """Where the picture's red says 50 × label, the mask has to say label; crops beyond the image are ignored."""
    data = segmentation_data(folder, train_transform=segmentation_training((20, 28), scale=(1.0, 1.0)))
    mean, deviation = 0.485, 0.229
    fill = set()
    for seed in range(6):
        image, mask = data.train[(seed % 5, seed)]
        assert (image.shape, mask.shape, mask.dtype) == ((3, 20, 28), (20, 28), torch.int64)
        red = (image[0] * deviation + mean) * 255
        inside = mask != IGNORED
        assert inside.sum() == HEIGHT * WIDTH
        torch.testing.assert_close(red[inside].as_subclass(torch.Tensor), 50.0 * mask[inside], atol=1e-3, rtol=0)
        fill |= set(red[~inside].round().int().tolist())
    assert fill == {124}


def test_the_factor_is_drawn_from_the_whole_range(folder: Path) -> None:
    data = segmentation_data(folder, train_transform=segmentation_training(48, scale=(0.5, 2.0)))
    areas = [int((data.train[(k % 5, k)][1] != IGNORED).sum()) for k in range(40)]
    assert max(areas) > 2.5 * HEIGHT * WIDTH
    assert min(areas) < 0.5 * HEIGHT * WIDTH


def test_rotation_fills_with_nothing(folder: Path) -> None:
    data = segmentation_data(folder, train_transform=segmentation_training((HEIGHT, WIDTH), (1.0, 1.0), rotation=30))
    shares = [(data.train[(0, seed)][1] == IGNORED).float().mean() for seed in range(8)]
    assert max(shares) > 0.05


def epoch_of(data: Any, seed: int, epoch: int, workers: int = 0) -> list[torch.Tensor]:
    loader = segmentation_batches(data.train, 2, seed, workers=workers)
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [tensor for batch in loader for tensor in batch]


def test_an_epoch_is_the_same_whenever_it_is_made(folder: Path) -> None:
    data = segmentation_data(folder, train_transform=segmentation_training(12, rotation=10))

    def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
        return all(map(torch.equal, first, second))

    first = epoch_of(data, 0, 1)
    assert [tuple(tensor.shape) for tensor in first] == [(2, 3, 12, 12), (2, 12, 12)] * 2
    torch.manual_seed(5)
    assert same(first, epoch_of(data, 0, 1, workers=1))
    assert not same(first, epoch_of(data, 0, 2))
    assert not same(first, epoch_of(data, 9, 1))


def test_a_batch_of_evaluation_has_one_size(folder: Path) -> None:
    place = folder / "val"
    for number, size in ((2, (16, 24)), (3, (32, 24)), (4, (32, 24))):
        pair(place / "images" / f"{number}.png", place / "masks" / f"{number}.png", number, size=size)
    data = segmentation_data(folder, problems="skip")
    shapes = [tuple(masks.shape) for _, masks in segmentation_evaluation_batches(data.test, 2)]
    assert shapes == [(2, 16, 24), (1, 16, 24), (2, 32, 24)]
    (place / "images" / "4.png").unlink()  # its substitute has the same size, although the next image has another
    with pytest.warns(UserWarning, match="skipped"):
        batches = list(segmentation_evaluation_batches(data.test, 2))
    assert torch.equal(batches[2][0][0], batches[2][0][1])


def test_evaluation_resizes_both(folder: Path) -> None:
    data = segmentation_data(folder, test_transform=segmentation_evaluation(side=32))
    image, mask = data.test[0]
    assert (image.shape, mask.shape) == ((3, 32, 48), (32, 48))
    assert set(mask.unique().tolist()) <= {0, 1, 2}
