from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aconite.cli import main
from aconite.errors import CheckpointError, DataError, SettingsError
from aconite.lab.runs import Run, evaluate, kind_of, load_run, predict, train

SILENT: Any = {"tell": pytest.fail, "device": "cpu"}


@pytest.fixture(scope="session")
def boxes_run(detection: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = detection(epochs=12, batch_size=2, optimiser="adamw", lr=0.003)
    return train(settings, tmp_path_factory.mktemp("runs") / "boxes")


@pytest.fixture(scope="session")
def masks_run(segmentation: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = segmentation(model="resnet18", epochs=3, batch_size=2, ignore_index=2, scale=(0.8, 1.25), lr=0.02)
    return train(settings, tmp_path_factory.mktemp("runs") / "masks")


@pytest.fixture
def unfinished(masks_run: Run, tmp_path: Path) -> Path:
    folder = tmp_path / "unfinished"
    shutil.copytree(masks_run.folder, folder, ignore=shutil.ignore_patterns("weights.pt", "rows.jsonl"))
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def metrics(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith(("map", "ap/", "miou", "iou/", "pixel"))}


def test_a_finished_network_is_what_was_trained(masks_run: Run) -> None:
    trained = load_run(masks_run.folder, **SILENT)
    assert trained.classes == ("disc", "square", "ground")
    assert trained.settings == masks_run.settings
    assert not trained.network.training
    stored = torch.load(masks_run.folder / "weights.pt", weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in trained.network.state_dict().items())


def test_a_checkpoint_holds_the_state_of_its_epoch(masks_run: Run) -> None:
    first, last = (
        load_run(masks_run.folder, masks_run.folder / "checkpoints" / f"epoch-000{epoch}.ckpt", **SILENT)
        for epoch in (2, 3)
    )
    finished = load_run(masks_run.folder, **SILENT)
    weights = [state.network.head.score.weight for state in (first, last, finished)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[2])


def test_an_unfinished_run_names_its_newest_checkpoint(unfinished: Path) -> None:
    newest = unfinished / "checkpoints" / "epoch-0003.ckpt"
    with pytest.raises(CheckpointError, match=f"not finished.*--checkpoint {newest}$"):
        load_run(unfinished, **SILENT)
    load_run(unfinished, newest, **SILENT)
    shutil.rmtree(unfinished / "checkpoints")
    with pytest.raises(CheckpointError, match=r"settings finishes it$"):
        load_run(unfinished, **SILENT)


def test_what_is_no_run_or_damaged_is_told(masks_run: Run, boxes_run: Run, unfinished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run"):
        load_run(tmp_path, **SILENT)
    with pytest.raises(CheckpointError, match="there is no"):
        load_run(masks_run.folder, tmp_path / "none.ckpt", **SILENT)
    content = (masks_run.folder / "weights.pt").read_bytes()
    (unfinished / "weights.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_run(unfinished, **SILENT)
    with pytest.raises(CheckpointError, match="holds another network"):
        load_run(masks_run.folder, boxes_run.folder / "weights.pt", **SILENT)
    with pytest.raises(SettingsError, match="choose auto, cpu or cuda"):
        load_run(masks_run.folder, device="tpu")


@pytest.mark.parametrize("name", ["boxes_run", "masks_run"])
def test_evaluation_repeats_the_rows_metrics(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    figures = evaluate(run.folder, batch_size=4, **SILENT)
    wanted = metrics(run.row)
    assert 0.01 < run.row[run.settings.metric] <= 1
    assert figures.keys() == wanted.keys()
    for metric, value in wanted.items():
        assert figures[metric] == pytest.approx(np.nan if value is None else value, nan_ok=True, abs=1e-6), metric


def test_evaluation_takes_other_data_with_the_same_classes(masks_run: Run, masks_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(masks_folder, other)
    for number in (8, 9):
        for name in ("images", "masks"):
            (other / "val" / name / f"{number}.png").unlink()
    before = evaluate(masks_run.folder, **SILENT)
    assert evaluate(masks_run.folder, other, **SILENT) != before
    for names, told in (
        ("disc square lawn", "lacks ground and has lawn beside; give data with the classes disc, square, ground$"),
        ("disc square ground lawn", "than the run has learnt: it has lawn beside; give"),
        (
            "disc ground square",
            "in another order: number 1 is ground there and square in the run; give the data",
        ),
    ):
        (other / "classes.txt").write_text(names.replace(" ", "\n"))
        with pytest.raises(DataError, match=told) as raised:
            evaluate(masks_run.folder, other, **SILENT)
        assert str(other) in str(raised.value)


def test_evaluation_looks_whether_the_runs_data_are_the_same(masks_run: Run, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(masks_run.folder, run)
    text = (run / "settings.toml").read_text().replace(masks_run.settings.data, str(data))
    (run / "settings.toml").write_text(text)
    with pytest.raises(DataError, match=f"no longer at {data}: name them, or others, with --data"):
        evaluate(run, **SILENT)
    shutil.copytree(masks_run.settings.data, data)
    (data / "val" / "images" / "8.png").unlink()
    (data / "val" / "masks" / "8.png").unlink()
    told = list[str]()
    evaluate(run, device="cpu", tell=told.append)
    assert len(told) == 1
    assert "has changed since the run" in told[0]


@pytest.mark.parametrize("values", ["imagenet", "bgr255"])
def test_labels_are_of_the_images_as_evaluation_sees_them(
    quick: Callable[..., Any], pictures: Path, tmp_path: Path, values: str
) -> None:
    data = tmp_path / "my pictures"
    shutil.copytree(pictures, data)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: to be turned by a quarter
    with Image.open(data / "test" / "bright" / "0.png") as image:
        image.save(data / "test" / "bright" / "0.png", exif=turned)
    run = train(quick(data=str(data), epochs=1, lr=0.01, values=values), tmp_path / "run")
    predict(run.folder, [data / "test"], tmp_path / "out", **SILENT)
    trained = load_run(run.folder, **SILENT)
    images = kind_of("classification").open_data(trained.settings).found.test
    said = {Path(line["image"]): line for line in lines(tmp_path / "out")}
    assert said.keys() == set(images.paths)
    for path, (image, _) in zip(images.paths, images, strict=True):
        with torch.inference_mode():
            probabilities = trained.network(image[None].as_subclass(torch.Tensor)).softmax(1)[0]
        scores = {each["label"]: each["score"] for each in said[path]["classes"]}
        assert [scores[name] for name in trained.classes] == pytest.approx(probabilities.tolist(), abs=2e-6)
        assert said[path]["label"] == trained.classes[probabilities.argmax()]


def test_a_run_with_what_an_evaluation_here_has_not(quick: Callable[..., Any], tmp_path: Path) -> None:
    """Half precision of a GPU, and logs."""
    run = train(quick(epochs=1, lr=0.01, log_activations=2, loggers=("csv",)), tmp_path)
    text = (tmp_path / "settings.toml").read_text()
    (tmp_path / "settings.toml").write_text(text.replace('"32-true"', '"16-mixed"'))
    assert load_run(tmp_path, **SILENT).settings.precision == "16-mixed"
    assert evaluate(tmp_path, **SILENT) == {name: pytest.approx(run.row[name]) for name in ("loss", "error")}


def test_boxes_of_a_folder(boxes_run: Run, boxes_folder: Path, tmp_path: Path) -> None:
    made = predict(boxes_run.folder, [boxes_folder / "val2017"], tmp_path, threshold=0.0, **SILENT)
    assert (made.images, made.unreadable) == (3, ())
    found = lines(tmp_path)
    assert [Path(line["image"]).name for line in found] == sorted(
        path.name for path in (boxes_folder / "val2017").iterdir()
    )
    for line in found:
        assert Image.open(tmp_path / line["picture"]).size == (64, 64)
        scores = [box["score"] for box in line["boxes"]]
        assert scores == sorted(scores, reverse=True)
        assert {box["label"] for box in line["boxes"]} <= {"disc", "square"}
    assert any(line["boxes"] for line in found)
    assert not (tmp_path / "masks").exists()
    predict(boxes_run.folder, [boxes_folder / "val2017"], tmp_path / "none", threshold=1.0, pictures=False, **SILENT)
    assert [line["boxes"] for line in lines(tmp_path / "none")] == [[], [], []]
    assert not (tmp_path / "none" / "pictures").exists()


def test_masks_hold_class_numbers_under_the_classes_colours(masks_run: Run, masks_folder: Path, tmp_path: Path) -> None:
    image = masks_folder / "val" / "images" / "8.png"
    predict(masks_run.folder, [image], tmp_path, **SILENT)
    mask = Image.open(tmp_path / lines(tmp_path)[0]["mask"])
    trained = load_run(masks_run.folder, **SILENT)
    pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)
    with torch.inference_mode():
        said: Any = kind_of("segmentation").predict(trained.network, trained.settings, trained.classes, pixels)
    assert (np.array(mask) == said.mask.numpy()).all()
    assert len({mask.convert("RGB").getpixel((x, y)) for x in range(64) for y in range(64)}) == len(said.mask.unique())


def test_images_of_one_name_and_folders_within(masks_run: Run, masks_folder: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for place in ("a.png", "a.bmp", "deeper/a.png", ".hidden/a.png"):
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        Image.open(masks_folder / "val" / "images" / "8.png").save(tree / place)
    out = tree / "predictions"  # is not looked into at the second time
    for _ in range(2):
        predict(masks_run.folder, [tree, tree / "a.png"], out, **SILENT)
        assert [(Path(line["image"]).relative_to(tree).as_posix(), line["mask"]) for line in lines(out)] == [
            ("a.bmp", "masks/a.png"),
            ("a.png", "masks/a-2.png"),
            ("deeper/a.png", "masks/deeper/a.png"),
            ("a.png", "masks/a-3.png"),
        ]


def test_what_cannot_be_predicted_is_told(masks_run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no"):
        predict(masks_run.folder, [tmp_path / "none.png"], tmp_path / "out", **SILENT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        predict(masks_run.folder, [tmp_path / "empty"], tmp_path / "out", **SILENT)
    with pytest.raises(SettingsError, match="from 0 to 1"):
        predict(masks_run.folder, [tmp_path], tmp_path / "out", threshold=2, **SILENT)


def test_predict_lists_what_it_cannot_read_and_exits_with_1(
    masks_run: Run, masks_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(masks_folder / "val" / "images", images)
    content = (images / "9.png").read_bytes()
    (images / "9.png").write_bytes(content[: len(content) // 2])
    command = ["predict", str(masks_run.folder), str(images), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.err.count("not read: ") == 1
    assert "9.png" in said.err
    assert [Path(line["image"]).name for line in lines(tmp_path / "out")] == ["10.png", "8.png"]
    (images / "9.png").unlink()
    assert main([*command, "--no-pictures"]) == 0


def test_evaluate_prints_a_table_or_json(boxes_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(boxes_run.folder), "--device", "cpu"]) == 0
    table = capsys.readouterr().out
    assert "map large  –" in " ".join(table.split()).replace("map large –", "map large  –")
    assert main(["evaluate", str(boxes_run.folder), "--device", "cpu", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["map_large"] is None
    assert figures["map"] == pytest.approx(boxes_run.row["map"], abs=1e-6)
