from __future__ import annotations

import pytest

from aconite.errors import UnknownNameError
from aconite.lab import published_table, published_tables
from aconite.lab.tables.printed import beyond_rounding
from aconite.models import list_models
from aconite.nn import activations

ROWS = [(table, row) for table in published_tables().values() for row in table.rows]


def test_figures_as_printed() -> None:
    """One figure of each table and column, copied from the paper a second time."""
    found = {
        (table.name, row.label, row.variant, metric): value
        for table, row in ROWS
        for metric, value in row.figures.items()
    }
    assert found["3", "ResNet-18", "acon-b", "error"] == 29.4
    assert found["3", "ResNet-152", "acon-a", "error"] == 22.2
    assert found["meta", "ShuffleNetV2 0.5×", "meta-acon", "error"] == 34.8
    assert found["meta", "ResNet-101", "meta-acon", "gain"] == 1.7
    assert found["meta", "MobileNet 0.25 as V2", "meta-acon", "gain"] == 6.7
    assert found["activations", "ShuffleNetV2 0.5×", "softplus", "error"] == 39.6
    assert found["tfnet", "TFNet 1.5", "acon-frelu", "error"] == 26.0
    assert found["tfnet", "MobileNetV2 1.4", "relu", "error"] == 25.3
    assert found["detection", "RetinaNet R50", "swish", "APs"] == 18.6
    assert found["segmentation", "PSPNet R50", "meta-acon", "mIoU"] == 78.3
    assert found["figure1", "ResNet-50", "relu + SE", "gain"] == 1.2
    assert len([key for key in found if key[0] == "3"]) == 6 * 4
    assert len([key for key in found if key[0] == "figure1"]) == 4 * 3


def test_gains_are_the_errors_differences() -> None:
    """Figure 1 and the errors agree where both speak, but for rounding: for ResNet-101 they differ by 0.1."""
    meta = published_table("meta")
    for row in meta.rows:
        if "gain" in row.figures and "error" in row.figures:
            gain = meta.baseline(row).figures["error"] - row.figures["error"]
            assert row.figures["gain"] == pytest.approx(gain, abs=0.101)


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda value: getattr(value, "call", getattr(value, "name", "")))
def test_every_row_names_a_network_of_this_library(table, row) -> None:
    assert row.network in list_models()
    assert row.activation in activations()
    assert table.baseline(row).group == row.group


def test_figure_rows_have_distinct_names() -> None:
    for table in published_tables().values():
        names = [(row.label, row.variant) for row in table.rows]
        assert len(names) == len(set(names)), table.name


def test_rounding() -> None:
    assert not beyond_rounding("25.5M", 25_549_000)
    assert beyond_rounding("25.5M", 25_551_000)
    assert not beyond_rounding("3.9G", 3_850_000_001)
    assert beyond_rounding("41M", 40_476_448)


def test_a_part_keeps_what_it_is_compared_with() -> None:
    part = published_table("tfnet").only(["tfnet_1_0"])
    assert [row.network for row in part.rows] == ["mobilenetv2_x0_6", "shufflenetv2_x1_0", "tfnet_1_0"]
    with pytest.raises(UnknownNameError, match="unknown network of table tfnet 'tfnet_3_0': did you mean"):
        published_table("tfnet").only(["tfnet_3_0"])


def test_unknown_table() -> None:
    with pytest.raises(UnknownNameError, match="known: 3, meta, activations, tfnet, detection, segmentation, figure1"):
        published_table("table5")
