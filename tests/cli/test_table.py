from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aconite.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(["table", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def row_of(activation: str, error: float) -> str:
    settings = {"data": "digits", "content": "abc", "model": "shufflenetv2_x0_5", "epochs": 30}
    row = {"kind": "cell", "model": "shufflenetv2_x0_5", "activation": activation, "seed": 0, "error": error}
    return json.dumps(row | {"diverged": False, "settings": settings}) + "\n"


def test_the_table_with_results_from_disk_and_every_kind_of_file(run: Run) -> None:
    Path("rows.jsonl").write_text(row_of("relu", 4.25) + row_of("acon-c", 3.5))
    status, out, err = run(
        *("activations", "--rows", "rows.jsonl", "--pixels", "64"),
        *("--json", "new/table.json", "--csv", "table.csv", "--html", "table.html"),
    )
    assert (status, err) == (0, "")
    for text in ("ShuffleNetV2 0.5×, acon-c", "37.0", "3.50 (1)", "1,379,600", "1.4M", "digits: epochs 30", "64×64"):
        assert text in out
    rows = json.loads(Path("new/table.json").read_text("utf-8"))["rows"]
    assert [row["measured"][0]["mean"] for row in rows if row["measured"]] == [4.25, 3.5]
    assert len(Path("table.csv").read_text("utf-8").splitlines()) == 1 + 7
    assert "3.50 (1)" in Path("table.html").read_text("utf-8")


def test_costs(run: Run) -> None:
    status, out, err = run(
        *(
            "activations",
            "--pixels",
            "32",
            "--costs",
            "--cost-batch-size",
            "2",
            "--cost-seconds",
            "0",
            "--device",
            "cpu",
        )
    )
    assert status == 0
    assert "measuring create('shufflenetv2_x0_5', activation='relu'), " in err
    assert "2 images of 32×32 pixels on cpu" in " ".join(out.split())
    assert out.count("1.00 (1.00–1.00)") == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("4",), "unknown table '4'; known: 3, meta, activations, tfnet, detection, segmentation, figure1"),
        (("segmentatoin",), "did you mean 'segmentation'?"),
        (("3", "--networks", "resnet19"), "unknown network of table 3 'resnet19': did you mean 'resnet18'?"),
        (("3", "--epochs", "2"), "--epochs says how to do what --train asks for: add --train"),
        (("3", "--cost-batch-size", "2"), "--cost-batch-size says how to do what --costs asks for: add --costs"),
        (("3", "--rows", "nowhere.jsonl"), "cannot read nowhere.jsonl: No such file or directory"),
        (("detection", "--train"), "data is missing: name the folder of a data set with --data"),
        (("detection", "--train", "--data", "x", "--steps", "1"), "no data at x"),
        (("detection", "--train", "--data", "x", "--steps", "1", "--seeds", "0"), "seeds is 0"),
        (("detection", "--train", "--data", "x", "--steps", "1", "--rows", "away"), "cannot read away: No such file"),
        (("detection", "--train", "--device", "cpu"), "the runs' is --accelerator"),
        (("detection", "--train", "--model", "resnet18"), "unknown option '--model'"),
        (("detection", "--epochs", "2"), "--epochs says how to do what --train asks for: add --train"),
        (("--train", "segmentation"), "write aconite table segmentation --train, with the name first"),
        (("activations", "--train", "--seeds", "0"), "seeds is 0"),
        (
            ("activations", "--train", "--data", "nowhere", "--figure", "bars.svg"),
            "table activations has no bars to draw",
        ),
        (("figure1", "--train", "--data", "x", "--figure", "bars.gif"), "bars.gif: a figure is written as"),
        (("activations", "--pixels", "64", "--figure", "bars.svg"), "table activations has no bars to draw"),
        (("activations", "--pixels", "8"), "images of 8 pixels are too small"),
        (("activations", "--costs", "--cost-batch-size", "1"), "write at least 2 images"),
        ((), "the following arguments are required: NAME"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run: Run, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("aconite: error: ")
    assert told in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_train_hands_the_options_on_and_reads_what_it_trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def compare(settings: Any, out: Path, progress: Any) -> None:
        asked.append((settings, out))
        out.mkdir(parents=True)
        (out / "rows.jsonl").write_text(row_of("mish", 7.25))

    monkeypatch.setattr("aconite.lab.tables.training.compare", compare)
    status, out, _ = run(
        *("activations", "--pixels", "32", "--train", "--data", "mnist5k", "--epochs", "2", "--seeds", "4"),
        *("--batch-size", "32", "--lr", "0.05", "--schedule", "linear", "--weight-decay", "0.001"),
        *("--label-smoothing", "0.2", "--init", "swish", "--image-size", "28", "--device", "cpu", "--quiet"),
    )
    from aconite.lab import CompareSettings

    names = ("relu", "swish", "mish", "elu", "softplus", "acon-c", "meta-acon")
    settings = CompareSettings(
        data="mnist5k", model="shufflenetv2_x0_5", activations=names, seeds=4, epochs=2, batch_size=32, lr=0.05,
        schedule="linear", weight_decay=0.001, label_smoothing=0.2, init="swish", image_size=28, device="cpu",
    )  # fmt: skip
    assert status == 0
    assert asked == [(settings, Path("runs/table-activations/shufflenetv2_x0_5"))]
    assert "7.25 (1)" in out


def test_train_hands_the_settings_of_whole_runs_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from aconite.lab.runs import RunsSettings, resolve

    asked: list[Any] = []

    def compare_runs(settings: Any, out: Path, *, progress: Any, tell: Any) -> None:
        asked.append((settings, out))
        tell("under way")
        row = {"kind": "cell", "task": "segmentation", "model": "resnet50", "activation": "swish", "seed": 0}
        out.mkdir(parents=True)
        (out / "rows.jsonl").write_text(json.dumps(row | {"miou": 0.3125, "settings": {"data": "roads"}}))

    monkeypatch.setattr("aconite.lab.runs.compare_runs", compare_runs)
    words = ("segmentation", "--train", "--data", "roads", "--recipe", "small", "--steps", "4", "--crop", "65,33")
    status, out, err = run(*words, "--seeds", "2", "--accelerator", "cpu", "--pixels", "32")
    given = {"data": "roads", "steps": 4, "crop": [65, 33], "accelerator": "cpu", "model": "resnet50"}
    shared = resolve("segmentation", recipe="small", given=given | {"activation": "relu"})
    settings = RunsSettings(shared=shared, activations=("relu", "swish", "meta-acon"), seeds=2)
    assert (status, err) == (0, "under way\n")
    assert asked == [(settings, Path("runs/table-segmentation/resnet50"))]
    assert "31.25 (1)" in out
    assert run(*words, "--out", "here", "--quiet")[2] == ""
    assert asked[1][0].seeds == 3
    assert asked[1][1] == Path("here/resnet50")


def test_only_the_first_process_prints(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.runs.compare_runs", lambda *_, **__: None)
    monkeypatch.setattr("aconite.lab.runs.is_first_process", lambda: False)
    assert run("detection", "--train", "--data", "shapes", "--steps", "1", "--html", "page.html") == (0, "", "")
    assert not Path("page.html").exists()


def test_the_help_is_that_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    for name, held, other in (("3", "--label-smoothing", "--anchor-sizes"), ("detection", "--anchor-sizes", "--crop")):
        with pytest.raises(SystemExit):
            main(["table", name, "--help"])
        told = capsys.readouterr().out
        assert held in told
        assert other not in told
        assert "runs/table-<name>" in " ".join(told.split())


def test_ctrl_c_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aconite.lab.tables.training.compare", compare)
    status, _, err = run("activations", "--train", "--out", "here", "--quiet")
    assert status == 130
    assert err.strip() == "stopped; the same command goes on from the last finished epoch in here"
