from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aconite.errors import AconiteError
from aconite.lab.runs import KINDS, recipes, resolve, settings_toml
from aconite.lab.runs.rates import rate_factor

ALL = [(task, name) for task in KINDS for name in recipes(task)]


def test_the_named_recipes() -> None:
    assert set(recipes()) == {
        "paper-shufflenetv2", "paper-resnet", "paper-tfnet", "paper-retinanet", "paper-pspnet", "cifar", "small",
    }  # fmt: skip
    assert [task for task in KINDS if "small" in recipes(task)] == ["classification", "detection", "segmentation"]


# The paper's section 4 and its public code.
PAPER = {
    "paper-shufflenetv2": {"steps": 300_000, "batch_size": 1024, "lr": 0.5, "weight_decay": 4e-5,
                           "label_smoothing": 0.1, "model": "shufflenetv2_x0_5"},
    "paper-tfnet": {"steps": 300_000, "batch_size": 1024, "lr": 0.5, "weight_decay": 4e-5, "label_smoothing": 0.1},
    "paper-resnet": {"steps": 600_000, "batch_size": 256, "lr": 0.1, "weight_decay": 1e-4, "label_smoothing": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name: str) -> None:
    settings: Any = resolve("classification", recipe=name, given={"data": "imagenet"})
    shared = {"optimiser": "sgd", "momentum": 0.9, "schedule": "linear", "warmup": 0, "colour_jitter": 0.4, "flip": 0.5,
              "image_size": 224, "resize_side": 256, "crop": "resized", "crop_scale": (0.08, 1.0), "values": "bgr255",
              "clip_norm": None, "epochs": None}  # fmt: skip
    assert {key: getattr(settings, key) for key in PAPER[name] | shared} == PAPER[name] | shared


def test_retinanets_rate_is_detectrons() -> None:
    settings: Any = resolve("detection", recipe="paper-retinanet", given={"data": "coco"})
    factor = rate_factor(settings, 90_000)
    steps = {0: 1 / 3, 250: 2 / 3, 500: 1, 59_999: 1, 60_000: 0.1, 79_999: 0.1, 80_000: 0.01, 89_999: 0.01}
    assert [factor(step) for step in steps] == pytest.approx([*steps.values()], rel=2e-3)
    assert (settings.lr, settings.batch_size, settings.weight_decay, settings.steps) == (0.01, 16, 1e-4, 90_000)
    assert (settings.side, settings.longest, settings.freeze_norms) == (800, 1333, True)
    assert (settings.freeze_stem, settings.box_beta, settings.decay) == (True, 0.11, "weights")


def test_pspnets_recipe_is_its_public_codes() -> None:
    settings: Any = resolve("segmentation", recipe="paper-pspnet", given={"data": "cityscapes"})
    expected = {"epochs": 200, "batch_size": 16, "lr": 0.01, "head_rate": 10, "schedule": "poly", "momentum": 0.9,
                "weight_decay": 1e-4, "decay": "all", "crop": (713, 713), "scale": (0.5, 2.0), "rotation": 10,
                "turn": 0.5, "blur": 0.5, "flip": 0.5, "auxiliary": 0.4, "dropout": 0.1, "bins": (1, 2, 3, 6),
                "window": (713, 713), "evaluate_flipped": True, "evaluation_side": None, "sync_batchnorm": True,
                "warmup": 0, "clip_norm": None, "freeze_norms": False}  # fmt: skip
    assert {key: getattr(settings, key) for key in expected} == expected


@pytest.mark.parametrize(("task", "name"), ALL)
def test_settings_come_back_from_their_file(task: str, name: str, tmp_path: Path) -> None:
    given = {"data": 'häuser "1" \\ 2', "model": "torchvision/resnet18", "activation": "none", "clip_norm": 3}
    settings = resolve(task, recipe=name, given=given)
    assert settings.activation is None
    path = tmp_path / "settings.toml"
    path.write_text(settings_toml(settings))
    assert resolve(task, config=path) == settings
    assert resolve(task, recipe=name, config=path) == settings


def test_later_places_win(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("batch-size = 8\nlr = 0.3\ndevices = 2\nloggers = []\nweight_decay = 1\n")
    settings = resolve("classification", recipe="small", config=path, given={"data": "a", "lr": 0.7})
    assert (settings.batch_size, settings.lr, settings.devices, settings.loggers) == (8, 0.7, "2", ())
    assert (settings.model, settings.schedule, settings.weight_decay) == ("resnet8", "cosine", 1.0)


@pytest.mark.parametrize("place", ["config", "given"])
def test_epochs_take_the_place_of_steps(tmp_path: Path, place: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text("epochs = 3\n" if place == "config" else "")
    given = {"data": "a"} | ({"epochs": 3} if place == "given" else {})
    settings = resolve("classification", recipe="paper-resnet", config=path, given=given)
    assert (settings.epochs, settings.steps) == (3, None)
    settings = resolve("classification", recipe="small", given={"data": "a", "steps": 5})
    assert (settings.epochs, settings.steps) == (None, 5)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("lr = ", "my.toml is no TOML"),
        (b"\xff", "my.toml is no TOML"),
        ("[training]\nlr = 0.1", "unknown setting of .*my.toml 'training'"),
        ("lr = 'a'", r"lr is 'a' \(.*my.toml\): it must be a number"),
        ("task = 'detection'", "my.toml is for another task than classification"),
        (None, "cannot read .*my.toml: No such file or directory; name a TOML file with --config"),
    ],
)
def test_a_bad_file_is_told_in_a_line(tmp_path: Path, content: str | bytes | None, told: str) -> None:
    path = tmp_path / "my.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AconiteError, match=told) as raised:
        resolve("classification", config=path, given={"data": "a", "epochs": 1})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("task", "name", "told"),
    [
        ("classification", "paper-resnt", "unknown recipe 'paper-resnt': did you mean 'paper-resnet'"),
        ("classification", "paper-pspnet", "recipe paper-pspnet is for segmentation, not for classification: choose"),
        ("sorting", None, "unknown task 'sorting'"),
    ],
)
def test_a_wrong_name(task: str, name: str | None, told: str) -> None:
    with pytest.raises(AconiteError, match=told):
        resolve(task, recipe=name, given={"data": "a", "epochs": 1})
