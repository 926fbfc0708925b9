"""Classification from folders that are listed, not read, at the start; and what is done to the images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from aconite.errors import DataError, SettingsError
from aconite.lab.data.checking import check_data
from aconite.lab.data.class_images import (
    classification_batches,
    classification_data,
    classification_evaluation_batches,
)
from aconite.lab.data.transforms import classification_evaluation, classification_training

SYNSETS = ("n01440764", "n01443537", "n01484850")
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (16, 12), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def red(label: int, number: int) -> int:
    return 60 * label + 10 * number


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Four training and two validation images of each of three synsets; the red channel tells which image it is."""
    for part, count in (("train", 4), ("val", 2)):
        for label, synset in enumerate(SYNSETS):
            for number in range(count):
                path = tmp_path / "ILSVRC" / part / synset / f"{synset}_{number}.JPEG"
                save(path, (red(label, number), 20, 200), format="PNG")
    return tmp_path / "ILSVRC"


def test_images_and_labels(imagenet: Path) -> None:
    data = classification_data(imagenet)
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("ILSVRC", SYNSETS, 12, 6)
    assert [path.name for path in data.test.paths] == [f"{synset}_{k}.JPEG" for synset in SYNSETS for k in range(2)]
    assert data.train.paths[-1] == imagenet / "train" / SYNSETS[2] / f"{SYNSETS[2]}_3.JPEG"
    assert data.train.paths[2:4] == [data.train.paths[2], data.train.paths[3]]
    for index in range(12):
        image, label = data.train.read(index)
        assert isinstance(image, tv_tensors.Image)
        assert (image.dtype, image.shape, label) == (torch.uint8, (3, 12, 16), index // 4)
        assert image[:, 0, 0].tolist() == [red(label, index % 4), 20, 200]
    assert data.train.size(0) == (12, 16)


def test_no_image_is_opened_at_the_start(imagenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: Any, **options: Any) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(Image, "open", opened)
    monkeypatch.setattr(Path, "open", opened)
    assert len(classification_data(imagenet).train) == 12
    with pytest.raises(DataError, match=r"no usable image for train: .*: an image was opened"):
        classification_data(imagenet, full=True)


def test_names_that_are_no_ascii(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate(("chien", "éléphant")):
            save(tmp_path / part / name / "ü – 1.png", (label, 0, 0))
            save(tmp_path / part / name / "b.png", (label, 0, 0))
    data = classification_data(tmp_path)
    assert data.classes == ("chien", "éléphant")
    assert all(path.is_file() for path in data.train.paths)
    assert [int(data.train.read(index)[0].max()) for index in range(4)] == [0, 0, 1, 1]


def epoch_of(data: Any, seed: int, epoch: int, **options: Any) -> list[torch.Tensor]:
    loader = classification_batches(data.train, 4, seed, **options)
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [tensor for batch in loader for tensor in batch]


def test_an_epoch_is_the_same_whenever_it_is_made(imagenet: Path) -> None:
    data = classification_data(imagenet, train_transform=classification_training(8, jitter=0.4))

    def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
        return all(map(torch.equal, first, second))

    first = epoch_of(data, 0, 1)
    assert [tuple(tensor.shape) for tensor in first] == [(4, 3, 8, 8), (4,)] * 3
    assert type(first[0]) is torch.Tensor
    assert first[1].dtype == torch.int64
    assert sorted(torch.cat(first[1::2]).tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    torch.manual_seed(5)
    assert same(first, epoch_of(data, 0, 1, workers=1))
    assert not same(first, epoch_of(data, 0, 2))
    assert not same(first, epoch_of(data, 9, 1))
    halves = [torch.cat(epoch_of(data, 0, 1, rank=rank, ranks=2)[1::2]) for rank in (0, 1)]
    assert [len(half) for half in halves] == [4, 4]


def test_evaluation_has_all_images_in_their_order(imagenet: Path) -> None:
    data = classification_data(imagenet, test_transform=classification_evaluation(8, side=8))
    batches = list(classification_evaluation_batches(data.test, 4))
    assert [len(labels) for _, labels in batches] == [4, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 0, 1, 1, 2, 2]
    seen = torch.cat([images for images, _ in batches])[:, 0, 4, 4] * DEVIATION[0] + MEAN[0]
    expected = [red(label, number) / 255 for label in range(3) for number in range(2)]
    torch.testing.assert_close(seen, torch.tensor(expected))


@pytest.mark.parametrize("problems", ["stop", "skip"])
def test_a_flat_val_folder_is_refused(imagenet: Path, problems: Any) -> None:
    for path in list((imagenet / "val").glob("*/*")):
        path.rename(imagenet / "val" / path.name)
    for folder in (imagenet / "val").iterdir():
        if folder.is_dir():
            folder.rmdir()
    words = next(problem.reason for problem in check_data(imagenet).problems if problem.kind == "misplaced")
    assert words.endswith("sort them into val/<synset>/")
    with pytest.raises(
        DataError, match=r"no usable image for val: val: images lie here \(6, .* sort them into val/<synset>/"
    ):
        classification_data(imagenet, problems=problems)


def test_a_class_of_one_part_only(imagenet: Path) -> None:
    (imagenet / "val" / SYNSETS[2]).rename(imagenet / "val" / "n99999999")
    with pytest.raises(DataError, match="train has this class, val has not"):
        classification_data(imagenet)
    data = classification_data(imagenet, problems="skip")
    assert data.classes == SYNSETS
    assert [data.test.paths.label(index) for index in range(len(data.test))] == [0, 0, 1, 1]
    assert [problem.kind for problem in data.problems] == ["missing-class", "missing-class"]


def test_an_image_that_proves_broken(imagenet: Path) -> None:
    broken = imagenet / "train" / SYNSETS[0] / f"{SYNSETS[0]}_3.JPEG"
    broken.write_bytes(broken.read_bytes()[:40])
    data = classification_data(imagenet, problems="skip")
    assert len(data.train) == 12
    with pytest.warns(UserWarning, match=rf"skipped .*{broken.name}"):
        image, label = data.train[3]
    assert label == 1  # the next image comes with its own label
    assert torch.equal(image, data.train[4][0]) or image.shape == (3, 224, 224)
    assert [problem.path for problem in data.train.found.values()] == [broken]
    with pytest.raises(DataError, match=broken.name):
        classification_data(imagenet).train[3]
    with pytest.raises(DataError, match=broken.name):
        classification_data(imagenet, full=True)
    checked = classification_data(imagenet, problems="skip", full=True)
    assert (len(checked.train), [problem.path for problem in checked.problems]) == (11, [broken])


def test_the_content_hash(imagenet: Path) -> None:
    def content() -> str:
        return classification_data(imagenet).content

    first = content()
    assert classification_data(imagenet, full=True).content == first
    path = imagenet / "train" / SYNSETS[1] / f"{SYNSETS[1]}_0.JPEG"
    save(path, (1, 2, 3), size=(40, 40), format="PNG")
    second = content()
    path.rename(path.with_name("other.JPEG"))
    assert len({first, second, content()}) == 3


def test_images_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows are columns
    for part in ("train", "test"):
        for name in ("a", "b"):
            save(tmp_path / part / name / "1.jpg", (9, 9, 9), size=(16, 8), exif=exif)
    image, _ = classification_data(tmp_path).train.read(0)
    assert image.shape == (3, 16, 8)


def test_gray_images_become_colour(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("L", (4, 4), 77).save(tmp_path / part / name / "1.png")
    assert classification_data(tmp_path, full=True).train.read(0)[0].unique().tolist() == [77]


def test_mistakes_are_told(imagenet: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train/<class>"):
        classification_data(tmp_path)
    with pytest.raises(DataError, match="nowhere: name the folder"):
        classification_data(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="choose skip"):
        classification_data(imagenet, problems="ask")  # type: ignore[arg-type]
    (imagenet / "val").rename(imagenet / "later")
    with pytest.raises(DataError, match="has no folder test"):
        classification_data(imagenet)


# ---- transforms


def noise(height: int = 32, width: int = 32) -> tv_tensors.Image:
    draws = torch.Generator().manual_seed(0)
    return tv_tensors.Image(torch.randint(1, 256, (3, height, width), generator=draws).to(torch.uint8))


def back(image: torch.Tensor) -> torch.Tensor:
    return ((image * DEVIATION[:, None, None] + MEAN[:, None, None]) * 255).round().as_subclass(torch.Tensor)


def test_padded_crops_are_windows_of_the_padded_image() -> None:
    image, places = noise(), set()
    padded = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)))
    change = classification_training(32, crop="pad", flip=0.0)
    for seed in range(30):
        torch.manual_seed(seed)
        crop, label = change(image, 7)
        assert (crop.shape, label) == ((3, 32, 32), 7)
        found = [
            (top, left)
            for top in range(9)
            for left in range(9)
            if np.array_equal(padded[:, top : top + 32, left : left + 32], back(crop).numpy())
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15


def test_padded_crops_of_other_sizes() -> None:
    assert classification_training(32, crop="pad")(noise(48, 64), 0)[0].shape == (3, 32, 32)


def test_jitter_changes_colours_within_its_reach() -> None:
    gray = tv_tensors.Image(torch.full((3, 32, 32), 100, dtype=torch.uint8))
    plain, jittered = classification_training(32), classification_training(32, jitter=0.4)
    levels = []
    for seed in range(40):
        torch.manual_seed(seed)
        levels.append(back(jittered(gray, 0)[0]).max().item())
        torch.manual_seed(seed)
        assert back(plain(gray, 0)[0]).max() == 100
    assert 60 <= min(levels) < 75
    assert 125 < max(levels) <= 140


@pytest.mark.parametrize("train", [True, False])
def test_values_of_the_reference_code(train: bool) -> None:
    image = tv_tensors.Image(torch.tensor([250, 20, 3], dtype=torch.uint8)[:, None, None].expand(3, 32, 32))
    make = classification_training if train else classification_evaluation
    options = {"size": 16} if train else {"size": 16, "side": 16}
    fed, label = make(**options, values="bgr255")(image, 3)
    assert (fed.dtype, fed.shape, label) == (torch.float32, (3, 16, 16), 3)
    torch.testing.assert_close(fed.mean((1, 2)).as_subclass(torch.Tensor), torch.tensor([3.0, 20.0, 250.0]))
    rgb, _ = make(**options)(image, 3)
    torch.testing.assert_close(back(rgb).mean((1, 2)), torch.tensor([250.0, 20.0, 3.0]))


def test_unknown_crops_and_values() -> None:
    with pytest.raises(SettingsError, match="'resized' or 'pad'"):
        classification_training(crop="centre")
    for make in (classification_training, classification_evaluation):
        with pytest.raises(SettingsError, match="'imagenet' or 'bgr255'"):
            make(values="rgb")


def test_a_jpeg_that_ends_early(imagenet: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, "JPEG")
    path = imagenet / "val" / SYNSETS[0] / f"{SYNSETS[0]}_0.JPEG"
    path.write_bytes(file.getvalue()[:-400])
    with pytest.raises(DataError, match="truncated"):
        classification_data(imagenet).test[0]
