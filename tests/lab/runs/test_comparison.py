"""Whole runs compared: which are trained, what is said about them, and in whose favour."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aconite.errors import CheckpointError, DataError, SettingsError, UnknownNameError
from aconite.lab import Cluster, find_rows, published_table
from aconite.lab.runs import RunsSettings, compare_runs, finish_runs, resolve, run_jobs, runs_tables, train
from aconite.lab.runs.comparison import METRICS
from aconite.lab.runs.comparison_page import runs_page
from aconite.lab.summary import standings
from aconite.lab.tables.results import results_for

Make = Callable[..., Path]


def tiny(data: Path, activations: tuple[str, ...] = ("relu", "acon-c"), seeds: int = 2, **changes: Any) -> RunsSettings:
    small = {"image_size": 32, "resize_side": 32, "batch_size": 4, "epochs": 2, "accelerator": "cpu", "loggers": []}
    shared = resolve("classification", recipe="small", given=small | {"data": str(data)} | changes)
    return RunsSettings(shared=shared, activations=activations, seeds=seeds)


def without_times(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    return [{**row, "timing": None} for row in rows]


def test_the_whole_job(image_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, out, told = tiny(image_folder("RGB")), tmp_path / "out", list[str]()
    found = compare_runs(settings, out, tell=told.append)
    order = [("relu", 0), ("acon-c", 0), ("relu", 1), ("acon-c", 1)]
    assert [(row["activation"], row["seed"]) for row in without_times(out)] == order
    assert [line.partition(":")[0] for line in told] == [
        f"[{at}/4] {name}-seed{seed}" for at, (name, seed) in enumerate(order, 1) for _ in range(2)
    ]
    errors = {name: [row["error"] for row in found.rows if row["activation"] == name] for name in ("relu", "acon-c")}
    relu, acon = found.standings
    assert (relu.mean, acon.mean) == tuple(map(statistics.fmean, errors.values()))
    assert relu.difference is None
    assert acon.difference is not None
    assert acon.difference.mean == pytest.approx(acon.mean - relu.mean)
    for row in found.rows:
        assert len(row["timing"]["images_per_second"]) == 2
    report = found.report.read_text()
    for part in ("acon-c", "95 % interval", "images/s", "<svg", "classification, 2 seeds, 2 epochs"):
        assert part in report

    alone = train(settings.of(settings.cells[3]), tmp_path / "alone").row
    assert {**alone, "timing": None} == without_times(out)[3]
    rows = find_rows([out])
    assert {(row["activation"], row["seed"]) for row in rows} == set(order)

    monkeypatch.setattr("aconite.lab.runs.comparison.train", None)
    assert compare_runs(settings, out).rows == found.rows  # nothing is left to train
    with pytest.raises(CheckpointError, match="epochs: 2 there, 3 now"):
        compare_runs(tiny(Path(settings.shared.data), epochs=3), out)


def test_a_wrong_folder_of_data_claims_no_folder(image_folder: Make, tmp_path: Path) -> None:
    out, data = tmp_path / "out", image_folder("RGB")
    with pytest.raises(DataError):
        compare_runs(tiny(data.with_name("pictrues"), ("relu",), 1), out)
    assert not out.exists()
    compare_runs(tiny(data, ("relu",), 1, epochs=1), out)


def test_runs_by_number(image_folder: Make, tmp_path: Path) -> None:
    settings = tiny(image_folder("RGB"), seeds=1, epochs=1)
    jobs = run_jobs(settings, tmp_path)
    [row] = finish_runs([jobs[1]])
    assert (row["activation"], jobs[0].finished()) == ("acon-c", None)
    assert not (tmp_path / "rows.jsonl").exists()
    assert compare_runs(settings, tmp_path).rows[1] == row


def test_each_activation_starts_from_its_own_weights(image_folder: Make, tmp_path: Path) -> None:
    first = tiny(image_folder("RGB"), seeds=1)
    for cell in first.cells:
        train(first.of(cell), tmp_path / f"resnet-{cell.activation}")
    pattern = str(tmp_path / "resnet-{activation}" / "weights.pt")
    second = tiny(Path(first.shared.data), weights=pattern, lr=1e-9, epochs=1)
    finish_runs(run_jobs(second, tmp_path / "out")[2:])
    for cell in second.cells[2:]:
        given, learnt = (
            torch.load(folder / "weights.pt", weights_only=True)["stem.conv.weight"]
            for folder in (tmp_path / f"resnet-{cell.activation}", tmp_path / "out" / "runs" / cell.name)
        )
        torch.testing.assert_close(learnt, given, rtol=0, atol=1e-6)


def test_a_training_that_diverges_counts_as_guessing(image_folder: Make, tmp_path: Path) -> None:
    settings = tiny(image_folder("RGB"), ("relu",), 1, lr=1e30, epochs=3)
    found = compare_runs(settings, tmp_path)
    assert found.rows[0]["diverged"]
    assert found.standings[0].mean == 50.0  # of two classes
    assert "relu: 1 of 1 diverged" in found.report.read_text()


def detections(activation: str, values: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "task": "detection", "data": "cells", "model": "resnet8", "activation": activation, "seed": seed,
            "kind": "cell", "map": value, "map_50": 2 * value, "diverged": not value, "parameters": 1000,
            "history": {"map": [None, value], "map_50": [None, 2 * value], "train_loss": [2.0, 1.0], "ap/a": [0.1, 0]},
            "settings": {"data": "cells", "epochs": None, "steps": 20, "bins": [1, 2], "seed": seed},
            "timing": {"images_per_second": [8.0, 9.0]}, "provenance": {},
        }
        for seed, value in enumerate(values)
    ]  # fmt: skip


def test_where_more_is_better() -> None:
    rows = detections("relu", [0.30, 0.31, 0.32]) + detections("silu", [0.20, 0.211, 0.22])
    rows += detections("acon-c", [0.40, 0.411, 0.42]) + detections("elu", [0.0, 0.5, 0.0])
    names, metric = ("relu", "silu", "acon-c", "elu"), METRICS["map"]
    found = standings(rows, names, "relu", metric)
    main, others = runs_tables(metric, "relu", 3, found, rows).values()
    heads, table, note = main
    assert heads[1:3] == ["test mAP %", "difference to relu"]
    assert [row[1] for row in table[:3]] == ["31.00 ± 1.00", "21.03 ± 1.00", "41.03 ± 1.00"]
    assert [row[3] for row in table] == [None, "yes", "yes", "no"]
    assert "elu: 2 of 3 diverged (the loss was no longer finite) and count as 0." in note
    assert others[0] == ["activation", "map 50", "train loss", "images/s", "parameters"]
    assert others[1][0] == ["relu", "0.620", None, "8.5", 1000]
    page = runs_page(metric, "relu", 3, found, rows).render()
    assert "The highest mean test mAP is acon-c&#39;s, 41.03 %." in page
    assert "silu is 9.97 points worse, acon-c is 10.03 points better" in page
    assert "above 0 is better" in page
    assert "detection, 3 seeds, 20 steps" in page


def test_the_papers_table_takes_the_rows() -> None:
    rows = [row | {"model": "resnet50"} for row in detections("relu", [0.30, 0.31]) + detections("meta-acon", [0.4])]
    [budget] = results_for(published_table("detection"), rows + rows[:1])  # a row may be found twice
    found = {row.activation: results for row, results in budget.results.items() if results}
    assert dict(found["relu"]["mAP"].values) == {0: 30.0, 1: 31.0}
    assert dict(found["meta-acon"]["AP50"].values) == {0: 80.0}
    assert "AP75" not in found["relu"]


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"seeds": 0}, SettingsError, "seeds is 0"),
        ({"activations": ()}, SettingsError, "activations is empty"),
        ({"activations": ("relu", "relu")}, SettingsError, "named twice"),
        ({"activations": ("relu", "rulu")}, UnknownNameError, "did you mean 'relu'"),
        ({"activations": ("none",)}, SettingsError, "no activation of its own"),
    ],
)
def test_what_is_refused(given: dict[str, Any], error: type[Exception], told: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=told):
        tiny(tmp_path, **given)


def test_a_run_of_a_cluster_has_one_device(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one device"):
        compare_runs(tiny(tmp_path, devices="2"), tmp_path / "out", cluster=Cluster(address="local"))


@pytest.mark.slow
def test_on_a_cluster(image_folder: Make, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    settings = tiny(image_folder("RGB"))
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    try:
        compare_runs(settings, tmp_path / "cluster", cluster=Cluster(address="local"))
    finally:
        ray.shutdown()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        compare_runs(settings, tmp_path / "here")
    finally:
        torch.set_num_threads(before)
    assert without_times(tmp_path / "cluster") == without_times(tmp_path / "here")
