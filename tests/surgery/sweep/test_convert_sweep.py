"""The architectures of other libraries, converted; a few of them here, all of them in the slow tests."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("sweep", Path(__file__).with_name("sweep.py"))
sweep = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sweep)

SHORT = {
    "torchvision": {"resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5", "ssdlite320_mobilenet_v3_large"},
    "timm": {"test_convnext", "test_resnet", "test_vit", "test_efficientnet", "test_nfnet", "test_byobnet"},
    "transformers": {"vit", "bert", "llama"},
}
TOLERANCE = 0.01  # of `convert`


def check(row):
    name = f"{row['library']} {row['model']}"
    assert "error" not in row, f"{name}: {row.get('error')}"
    if "nothing" in row or "skipped" in row:
        return
    assert row["converted"] > 0, name
    assert row["state_dict"], name
    assert row["deconverted"], name
    assert (row["largest_exact"] or 0) <= 1.1 * TOLERANCE, name
    if row["output_deviation"] is not None:
        assert row["output_deviation"] == row["output_deviation"], name  # not NaN
    if "zero" in row:
        assert row["not_finite"] == 0, name
        assert row["no_gradient"] + row["zero"] <= UNUSED.get(row["model"], 0), name


UNUSED = {"googlenet": 8, "fbnetv3_b": 26, "bat_resnext26ts": 1}
"""Gradients that are nothing or zero for a reason of the network.

googlenet's auxiliary heads do not run in evaluation; with fresh norm statistics fbnetv3_b's values grow until its gates
are shut, and one softmax of bat_resnext26ts is saturated.
"""


@pytest.mark.parametrize("library", SHORT)
def test_a_few(library):
    pytest.importorskip(library)
    rows = list(sweep.rows([library], SHORT[library].__contains__))
    assert {row["model"] for row in rows} == SHORT[library]
    for row in rows:
        check(row)


@pytest.mark.slow
@pytest.mark.parametrize("library", SHORT)
def test_all(library):
    pytest.importorskip(library)
    rows = list(sweep.rows([library]))
    for row in rows:
        check(row)
    least = {"torchvision": 100, "timm": 150, "transformers": 3}[library]
    assert sum("converted" in row for row in rows) >= least
