"""Measured tables as a whole: their costs, columns, data, page, and the trainings that fill them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aconite.errors import SettingsError
from aconite.lab import (
    CompareSettings,
    CostSettings,
    MeasuredTable,
    PublishedRow,
    PublishedTable,
    find_rows,
    measure_table,
    print_measured,
    published_table,
    table_csv,
    table_json,
    table_page,
    train_table,
    write_bars,
)
from aconite.lab.data import ImageData
from aconite.lab.rows import recorded_settings
from aconite.lab.tables.rendering import columns_of
from aconite.lab.tables.training import table_runs
from aconite.lab.training import Cell, new_task
from aconite.nn import SqueezeExcite

CALLED = "SmallNet"


def small(**changes: Any) -> PublishedTable:
    """A table of the smallest network there is, with ReLU's true parameter count and a false one."""
    figures = ({"error": 9.0}, {"error": 8.0, "gain": 1.0})
    rows = [
        PublishedRow(label=CALLED, network="resnet8", activation=name, figures=found, parameters=printed, group=CALLED)
        for name, found, printed in zip(("relu", "acon-c"), figures, ("0.14M", "1.1M"), strict=True)
    ]
    return dataclasses.replace(
        PublishedTable(name="small", title="A small table", metrics=("error", "gain"), rows=rows), **changes
    )


def row_of(activation: str, seed: int, error: float, diverged: bool = False) -> dict[str, Any]:
    settings = {"data": "digits", "content": "abc", "model": "resnet8", "epochs": 30, "batch_size": 128}
    row = {"kind": "cell", "model": "resnet8", "activation": activation, "seed": seed, "error": error}
    return row | {"diverged": diverged, "settings": settings}


ROWS = [row_of("relu", 0, 10.0), row_of("relu", 1, 12.0), row_of("acon-c", 0, 9.0), row_of("acon-c", 1, 8.0, True)]


@pytest.fixture(scope="module")
def costed() -> MeasuredTable:
    settings = CostSettings(batch_size=2, image_size=32, seconds=0, device="cpu")
    return measure_table(small(), image_size=32, rows=ROWS, costs=settings)


def test_columns_hold_published_beside_measured(costed: MeasuredTable) -> None:
    results, counts, costs = columns_of(costed).values()
    heads, rows, note = results
    assert heads == [
        "network, activation",
        "error %, published",
        "gain over ReLU, published",
        "error %, here 1",
        "gain over ReLU, here 1",
    ]
    assert rows == [
        ["SmallNet, relu", "9.0", None, "11.00 ± 1.41 (2)", None],
        ["SmallNet, acon-c", "8.0", "1.0", "8.50 ± 0.71 (2)", "2.50 ± 2.12 (2)"],
    ]
    assert "1: digits: batch size 128, epochs 30." in note
    assert "SmallNet, acon-c: 1 diverged" in note
    assert "relu: 1 diverged" not in note
    heads, rows, note = counts
    assert rows[0][:3] == ["SmallNet, relu", "0.14M", f"{costed.counts[costed.table.rows[0]].parameters:,}"]
    assert str(rows[1][2]).endswith(" *")
    assert "32×32" in note
    heads, rows, note = costs
    assert heads[5:] == ["peak", "MB"]
    assert [rows[0][1], rows[0][5]] == ["1.00 (1.00–1.00)", "1.00"]
    assert rows[1][6] == f"{costed.costs[costed.table.rows[1]].peak_bytes / 1e6:.1f}"
    assert "2 images of 32×32 pixels on cpu" in note


def test_an_empty_cell_where_nobody_trained() -> None:
    of_others = [row_of("gelu", 0, 5.0)]
    for given in ([], of_others):
        (heads, rows, note), _ = columns_of(measure_table(small(), image_size=32, rows=given)).values()
        assert heads[3:] == ["error %, here", "gain over ReLU, here"]
        assert all(row[3:] == [None, None] for row in rows)
        assert "no training of these rows was found" in note
        assert "--train" in note


def test_many_metrics_have_a_line_each() -> None:
    found = {"task": "detection", "mAP": 30.25, "APl": 40.5}
    table = published_table("detection")
    trained = [row_of("swish", seed, 0.0) | {"backbone": "resnet50"} | found for seed in (0, 1)]
    heads, rows, _ = next(iter(columns_of(measure_table(table, image_size=32, rows=trained)).values()))
    assert heads == ["network, activation", "metric", "published", "here 1"]
    assert len(rows) == len(table.rows) * 6
    assert rows[6] == ["RetinaNet R50, swish", "mAP", "35.8", "30.25 ± 0.00 (2)"]
    assert rows[11] == ["RetinaNet R50, swish", "APl", "49.4", "40.50 ± 0.00 (2)"]
    assert rows[0] == ["RetinaNet R50, relu", "mAP", "35.2", None]


@pytest.mark.parametrize(
    ("name", "networks"),
    [("figure1", ["shufflenetv2_x1_5", "resnet50"]), ("meta", ["mobilenetv2_x0_25", "resnet152"])],
)
def test_a_file_has_every_word_whole(name: str, networks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the longest names and numbers."""
    measured = measure_table(published_table(name).only(networks), image_size=32)
    print_measured(measured)
    printed = capsys.readouterr().out
    assert "…" not in printed
    words = set(printed.split())
    for row, counts in measured.counts.items():
        assert f"{row.label}, {row.variant} " in printed
        assert {f"{counts.parameters:,}", f"{counts.elementwise / 1e6:,.2f}"} <= words


def test_costs_are_relative_to_the_relu_row(costed: MeasuredTable) -> None:
    relu, acon = (costed.costs[row] for row in costed.table.rows)
    assert relu.training_ratio == relu.inference_ratio == (1.0, 1.0, 1.0)
    assert relu.saved_ratio == relu.peak_ratio == 1.0
    assert acon.saved_ratio == acon.saved_bytes / relu.saved_bytes
    assert acon.peak_ratio == acon.peak_bytes / relu.peak_bytes
    assert all(value > 0 for value in (*acon.training_ms, *acon.inference_ms, *acon.inference_ratio))


def test_saved_bytes_of_a_row_are_those_of_its_network(costed: MeasuredTable) -> None:
    """Restated: every storage that autograd's hooks see in one training step, parameters, buffers and images not."""
    from aconite.models import create

    network = create("resnet8", activation="acon-c").train()
    images, labels = torch.randn(2, 3, 32, 32), torch.arange(2)
    owned = {
        tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers(), images, labels)
    }
    kept: dict[int, torch.Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(id(tensor), tensor), lambda tensor: tensor
    ):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept.values()}
    assert loss.isfinite()
    expected = sum(size for address, size in storages.items() if address not in owned)
    assert costed.costs[costed.table.rows[1]].saved_bytes == expected


def test_the_peak_of_a_row_is_that_of_its_training(costed: MeasuredTable) -> None:
    """Restated as a sum: a step holds weights, gradients, momentum, images and what it saves, and not half again."""
    from aconite.models import create

    for row in costed.table.rows:
        parameters = sum(parameter.numel() for parameter in create(row.network, **row.options).parameters())
        held = 4 * (3 * parameters + 2 * 3 * 32 * 32)
        cost = costed.costs[row]
        assert held < cost.peak_bytes < 1.5 * (held + cost.saved_bytes)
    relu, acon = (costed.costs[row] for row in costed.table.rows)
    assert acon.peak_bytes > relu.peak_bytes


def test_a_detector_s_counts_and_costs_are_its_backbone_s() -> None:
    table = small(task="detection", metrics=("mAP",))
    settings = CostSettings(batch_size=2, image_size=32, seconds=0, device="cpu")
    _, counts, costs = columns_of(measure_table(table, image_size=32, costs=settings)).values()
    for _, _, note in (counts, costs):
        assert note.endswith("Of the backbone as a classifier, without what the task adds to it.")


def test_json_says_all_and_csv_a_line_for_each_metric(costed: MeasuredTable) -> None:
    content = json.loads(table_json(costed))
    relu, acon = content["rows"]
    assert acon["call"] == "create('resnet8', activation='acon-c')"
    assert acon["published"] == {"error": 8.0, "gain": 1.0, "parameters": "1.1M", "multiply_adds": None}
    assert (relu["beyond_rounding"], acon["beyond_rounding"]) == ([], ["parameters"])
    assert [(found["metric"], found["by_seed"]) for found in acon["measured"]] == [
        ("error", {"0": 9.0, "1": 8.0}),
        ("gain", {"0": 1.0, "1": 4.0}),
    ]
    assert acon["measured"][0]["settings"]["epochs"] == 30
    assert acon["cost"]["peak_bytes"] == costed.costs[costed.table.rows[1]].peak_bytes
    assert content["provenance"]["torch"] == torch.__version__
    lines = list(csv.DictReader(io.StringIO(table_csv(costed))))
    assert [(line["activation"], line["metric"], line["measured"], line["seeds"]) for line in lines] == [
        ("relu", "error", "11.0", "2"),
        ("relu", "gain", "", ""),
        ("acon-c", "error", "8.5", "2"),
        ("acon-c", "gain", "2.5", "2"),
    ]
    assert [float(line["peak_ratio"]) for line in lines] == [
        cost.peak_ratio for cost in costed.costs.values() for _ in costed.table.metrics
    ]
    assert {line["parameters"] for line in lines} == {str(counts.parameters) for counts in costed.counts.values()}


def test_page_shows_the_same_tables(costed: MeasuredTable) -> None:
    page = table_page(costed).render()
    for text in ("A small table", "11.00 ± 1.41 (2)", "What they cost here, in units of ReLU"):
        assert text in page
    assert "<svg" not in page


def test_bars_of_gains(tmp_path: Path) -> None:
    measured = measure_table(small(metrics=("gain",)), image_size=32, rows=ROWS)
    assert "Measured with digits" in table_page(measured).render()
    write_bars(measured, tmp_path / "bars.svg")
    write_bars(measured, tmp_path / "again.svg")
    assert (tmp_path / "bars.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert "measured here" in (tmp_path / "bars.svg").read_text("utf-8")
    with pytest.raises(SettingsError, match="table small has no bars to draw: figure1 has"):
        write_bars(measure_table(small(), image_size=32), tmp_path / "bars.svg")


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"batch_size": 1}, "at least 2 images"), ({"seconds": -1}, "from 0"), ({"device": "tpu"}, "device is 'tpu'")],
)
def test_cost_settings_are_checked(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        CostSettings(**changes)


def test_multiply_adds_are_compared_at_the_published_size_alone() -> None:
    table = small()
    marked = dataclasses.replace(table, rows=[dataclasses.replace(table.rows[0], multiply_adds="41M")])
    assert measure_table(marked, image_size=64).beyond_rounding(marked.rows[0]) == []
    assert measure_table(marked).beyond_rounding(marked.rows[0]) == ["multiply_adds"]


def test_too_few_pixels() -> None:
    with pytest.raises(SettingsError, match="16 pixels are too small"):
        measure_table(small(), image_size=16)


def test_a_table_is_trained_network_by_network() -> None:
    runs = table_runs(published_table("activations"), epochs=3, data="mnist5k")
    [(folder, settings)] = runs.items()
    assert folder == settings.model == "shufflenetv2_x0_5"
    assert settings.activations == ("relu", "swish", "mish", "elu", "softplus", "acon-c", "meta-acon")
    assert (settings.epochs, settings.data) == (3, "mnist5k")


def test_networks_with_se_have_a_run_of_their_own() -> None:
    runs = table_runs(published_table("figure1").only(["shufflenetv2_x1_5"]), seeds=2)
    plain, squeezed = runs["shufflenetv2_x1_5"], runs["shufflenetv2_x1_5-se"]
    assert (plain.se, plain.activations) == (False, ("relu", "swish", "meta-acon"))
    assert squeezed == dataclasses.replace(plain, se=True, activations=("relu",))


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_rows_that_are_whole_runs_are_trained_otherwise(name: str) -> None:
    with pytest.raises(SettingsError, match=f"aconite table {name} --train, .* or call train_table_runs"):
        table_runs(published_table(name))


@pytest.mark.parametrize("se", [False, True])
def test_se_reaches_the_network_and_stands_in_its_rows(
    se: bool, make_data: Callable[..., ImageData], quick: Callable[..., CompareSettings]
) -> None:
    data, settings = make_data(), quick(se=se, model="shufflenetv2_x0_5")
    network = new_task(Cell(0, "relu"), settings, data).network
    assert any(isinstance(module, SqueezeExcite) for module in network.modules()) is se
    assert recorded_settings(settings, data).get("se", False) is se


def test_training_fills_the_cells_and_goes_on(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    given = {"data": str(image_folder()), "epochs": 1, "seeds": 2, "batch_size": 4, "device": "cpu"}
    train_table(small(), tmp_path / "runs", **given)
    [budget] = measure_table(small(), image_size=32, rows=find_rows([tmp_path / "runs"])).budgets
    assert [len(found["error"].values) for found in budget.results.values()] == [2, 2]
    assert budget.data == "pictures"
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("cells/*.json")}
    assert len(cells) == 4
    train_table(small(), tmp_path / "runs", **given)
    assert {path: path.stat().st_mtime_ns for path in cells} == cells
