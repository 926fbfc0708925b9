"""Classification from data sets of Hugging Face that lie on disk."""

from __future__ import annotations

import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aconite.errors import DataError, MissingExtraError
from aconite.lab.data import check_data, load
from aconite.lab.data.class_images import (
    classification_batches,
    classification_data,
    classification_evaluation_batches,
)
from aconite.lab.runs import ClassificationSettings, evaluate, train

datasets = pytest.importorskip("datasets")
Make = Callable[..., str]
SIZE = (11, 9)  # width, height


def red(part: str, number: int) -> int:
    return 20 * number + (100 if part == "test" else 0)


def image_file(value: int) -> bytes:
    draws = np.random.default_rng(value)
    pixels = draws.integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    pixels[..., 0] = value
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a data set by `save_to_disk`, of 7 images for training and 4 for testing, and says its name."""

    def made(
        labels: Any = None, files: Any = None, *, parts: tuple[str, ...] = ("train", "test"), name: str = "pets",
        extra: dict[str, Any] | None = None, kinds: dict[str, Any] | None = None,
    ) -> str:  # fmt: skip
        whole = {}
        for part, count in zip(parts, (7, 4, 3), strict=False):
            cells = [{"bytes": image_file(red(part, number)), "path": None} for number in range(count)]
            for row, content in (files or {}).get(part, {}).items():
                cells[row] = content
            own = (labels or {}).get(part, [number % 2 for number in range(count)])
            columns = {"picture": cells, "kind": own, **{key: [value] * count for key, value in (extra or {}).items()}}
            features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["dog", "cat"]), **(kinds or {})}
            whole[part] = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        datasets.disable_progress_bars()
        datasets.DatasetDict(whole).save_to_disk(tmp_path / name)
        return f"hf:{tmp_path / name}"

    return made


def test_images_and_labels_are_those_of_the_rows(make: Make) -> None:
    data = classification_data(make())
    assert (data.name, data.classes, len(data.train), len(data.test)) == ("pets", ("dog", "cat"), 7, 4)
    for part, images in (("train", data.train), ("test", data.test)):
        for index in range(len(images)):
            image, label = images.read(index)
            assert (image.shape, image.dtype, label) == ((3, 9, 11), torch.uint8, index % 2)
            assert image[0].unique().tolist() == [red(part, index)]
    assert data.train.size(0) == (9, 11)
    assert not data.problems


def test_the_split_for_evaluation_is_the_first_that_has_labels(make: Make) -> None:
    data = classification_data(make({"test": [-1] * 4}, parts=("train", "test", "validation")))
    assert len(data.test) == 3
    assert not data.problems


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_an_epoch_are_the_same_whenever_they_are_made(make: Make, workers: int) -> None:
    def batch(loading: int) -> Any:
        loader = classification_batches(classification_data(name).train, 3, 5, workers=loading)
        loader.sampler.set_epoch(2)
        return next(iter(loader))

    name = make()
    for one, other in zip(batch(0), batch(workers), strict=True):
        assert torch.equal(one, other)


def test_the_hash_tells_images_and_labels_and_not_where_they_lie(make: Make, tmp_path: Path) -> None:
    content = classification_data(make()).content
    shutil.copytree(tmp_path / "pets", tmp_path / "elsewhere" / "animals")
    assert classification_data(f"hf:{tmp_path / 'elsewhere' / 'animals'}").content == content
    assert classification_data(make({"train": [1] * 7}, name="b")).content != content
    changed = {"test": {3: {"bytes": image_file(7), "path": None}}}
    assert classification_data(make(files=changed, name="c")).content != content


BROKEN: dict[str, Any] = {"bytes": image_file(3)[:60], "path": None}
PROBLEMS = {"labels": {"train": [0, -1, 1, 0, None, 1, 0]}, "files": {"train": {2: BROKEN}, "test": {1: None}}}


def test_check_data_finds_what_is_wrong(make: Make) -> None:
    found = check_data(make(**PROBLEMS), workers=2)
    assert (found.task, found.classes) == ("classification", ("dog", "cat"))
    assert found.parts == {"train": {"images": 5}, "test": {"images": 4}}
    told = {(one["kind"], one["file"]) for one in json.loads(found.json())["problems"]}
    assert told == {
        ("unknown-class", "train/1"), ("unknown-class", "train/4"), ("truncated-image", "train/2"),
        ("unreadable-image", "test/1"),
    }  # fmt: skip
    assert not check_data(make(name="sound"), full=True).problems


def test_problems_stop_or_are_skipped(make: Make) -> None:
    name = make(**PROBLEMS)
    with pytest.raises(DataError, match=r"train/1: it has no label(.|\n)*train/4"):
        classification_data(name)
    data = classification_data(name, problems="skip", full=True)
    assert (len(data.train), len(data.test), len(data.problems)) == (4, 3, 4)
    assert [data.train.read(index)[0][0, 0, 0].item() for index in range(4)] == [red("train", n) for n in (0, 3, 5, 6)]
    late = classification_data(name, problems="skip")  # the images are found as they are read
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert sum(len(labels) for _, labels in classification_evaluation_batches(late.test, 2)) == 4
    assert [f"{name}/test/1: the row has no image" in str(one.message) for one in caught] == [True]
    with pytest.raises(DataError, match="test/1: the row has no image"):
        _ = classification_data(make(files=PROBLEMS["files"], name="stop")).test[1]


def test_images_that_lie_beside_the_rows(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "one.png").write_bytes(image_file(123))
    name = make(files={"train": {0: str(tmp_path / "one.png")}})
    (tmp_path / "one.png").unlink()  # save_to_disk has taken it in
    assert classification_data(name).train.read(0)[0][0, 0, 0] == 123
    for part, classes in (("train", ("a", "b")), ("test", ("a", "b"))):
        for number, each in enumerate(classes):
            (tmp_path / "folder" / part / each).mkdir(parents=True)
            (tmp_path / "folder" / part / each / "1.png").write_bytes(image_file(50 * number))
    found = classification_data(f"hf:{tmp_path / 'folder'}")
    assert [found.train.read(index)[1] for index in range(2)] == [0, 1]
    assert found.train.read(1)[0][0, 0, 0] == 50


def test_a_run_trains_goes_on_and_is_evaluated(make: Make, tmp_path: Path) -> None:
    settings = ClassificationSettings(
        data=make(), model="resnet8", image_size=8, resize_side=8, crop="pad", steps=4, batch_size=3, accelerator="cpu",
        loggers=(), checkpoint_every=1,
    )  # fmt: skip
    whole = train(settings, tmp_path / "whole")
    assert whole.row["data"] == "pets"
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("rows.jsonl", "weights.pt"):
        (tmp_path / "cut" / name).unlink()
    checkpoints = sorted((tmp_path / "cut" / "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime)
    checkpoints[-1].unlink()
    assert len(checkpoints) > 1
    again = train(settings, tmp_path / "cut")
    assert again.row["history"] == whole.row["history"]
    weights = [torch.load(tmp_path / run / "weights.pt", weights_only=True) for run in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert evaluate(tmp_path / "whole", device="cpu")["error"] == whole.figures["error"]


def test_small_images_are_read_into_memory(make: Make) -> None:
    data = load(make())
    assert (data.name, data.classes, data.train_images.shape) == ("pets", ("dog", "cat"), (7, 3, 9, 11))
    assert data.test_labels.tolist() == [0, 1, 0, 1]
    assert data.test_images[:, 0, 0, 0].tolist() == [red("test", number) for number in range(4)]
    assert load(make(), image_size=8).image_size == (8, 8)
    with pytest.raises(DataError, match="train/1: it has no label"):
        load(make(**PROBLEMS, name="b"))
    with pytest.raises(DataError, match=r"cannot read the image hf:.*test/1: the row has no image"):
        load(make(files=PROBLEMS["files"] | {"train": {}}, name="c"))


TWO = {"extra": {"coarse": 0}, "kinds": {"coarse": datasets.ClassLabel(names=["animal"])}}


def test_a_column_can_be_named(make: Make) -> None:
    data = classification_data(f"{make(**TWO)}#coarse")
    assert (data.name, data.classes, data.train.read(1)[1]) == ("pets-coarse", ("animal",), 0)


@pytest.mark.parametrize(
    ("options", "ending", "message"),
    [
        (TWO, "", "several columns of the type ClassLabel, kind, coarse: name one, such as hf:.*pets#kind"),
        (TWO, "#colour", r"colour is no column of the type Image or ClassLabel, but there are picture \(Image\)"),
        ({"kinds": {"kind": datasets.Value("int64")}}, "", r"no column of the type ClassLabel, but picture \(Image\), "
         r"kind \(Value\): make one by class_encode_column"),
        ({"kinds": {"other": datasets.Image()}, "extra": {"other": None}}, "", "several columns of the type Image"),
        ({"kinds": {"picture": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}}, "",
         "no column of the type Image"),
        ({"parts": ("train",)}, "", "no split for evaluation with labels.*its splits are train; divide one"),
        ({"parts": ("training", "test")}, "", "no split train: its splits are training, test"),
        ({"labels": {"train": [-1] * 7}}, "", "no usable image for train: train/0: it has no label"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_one_line(make: Make, options: Any, ending: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        classification_data(make(**options) + ending)
    assert "\n" not in str(caught.value)


def test_parts_with_other_classes_are_refused(make: Make, tmp_path: Path) -> None:
    whole = datasets.load_from_disk(make().removeprefix("hf:"))
    whole["test"] = whole["test"].cast_column("kind", datasets.ClassLabel(names=["cat", "dog"]))
    whole.save_to_disk(tmp_path / "mixed")
    with pytest.raises(DataError, match="test has other columns or classes"):
        classification_data(f"hf:{tmp_path / 'mixed'}")


def test_what_is_nowhere_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"hf:no-such-data is no folder here.*nor a data set of the Hub") as caught:
        classification_data("hf:no-such-data")
    assert "\n" not in str(caught.value)


def test_a_configuration_is_handed_on(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    whole, asked = datasets.load_from_disk(make().removeprefix("hf:")), list[Any]()
    monkeypatch.setattr(datasets, "load_dataset", lambda *words: (asked.append(words), whole)[1])
    assert classification_data("hf:someone/pets:small").name == "pets-small"
    assert classification_data("hf:someone/pets").name == "pets"
    assert asked == [("someone/pets", "small"), ("someone/pets", None)]


def test_another_task_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match="is not a data set for detection"):
        check_data(make(), "detection")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"aconite\[datasets\]"):
        classification_data("hf:pets")
