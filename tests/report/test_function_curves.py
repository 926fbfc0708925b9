"""Curves by name against formulas written out here; the family's figures hold what the equations say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from aconite.errors import DataError, SettingsError, ShapeError, UnknownNameError
from aconite.nn import activations
from aconite.report import (
    curve,
    family_curves,
    function_curves,
    layer_spread,
    maxout_pairs,
    network_errors,
    state_bars,
    switching_curves,
    write_figure,
)

ACROSS = {"frelu", "acon-frelu", "se-relu", "meta-acon", "meta-acon-layer"}


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def acon(x: np.ndarray, p1: float, p2: float, beta: float) -> np.ndarray:
    return (p1 - p2) * x * sigmoid(beta * (p1 - p2) * x) + p2 * x


X = np.linspace(-5, 5, 401)
ERF = np.array([math.erf(x / math.sqrt(2)) for x in X])
FORMULAS = {
    "identity": X,
    "relu": np.maximum(X, 0),
    "silu": X * sigmoid(X),
    "gelu": X * (1 + ERF) / 2,
    "tanh": np.tanh(X),
    "softplus": np.log1p(np.exp(X)),
    "hardswish": X * np.clip(X + 3, 0, 6) / 6,
    "swish:beta=3": X * sigmoid(3 * X),
    "acon-b:p2=0.25, beta=2": acon(X, 1, 0.25, 2),
    "acon-c": X * sigmoid(X),
    "acon-c:p1=1.2,p2=-0.8,beta=0.5": acon(X, 1.2, -0.8, 0.5),
    "maxout:p1=1.2,p2=-0.8": np.maximum(1.2 * X, -0.8 * X),
    "prelu:weight=-0.5": np.maximum(X, 0) - 0.5 * np.minimum(X, 0),
    "meta-acon-pixel": X * sigmoid(sigmoid(X) * X),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_curve_is_the_formula_with_its_slope(name: str) -> None:
    found = curve(name)
    assert found.x.numpy() == pytest.approx(X)
    assert found.y.numpy() == pytest.approx(FORMULAS[name], abs=1e-9)
    middle = np.gradient(FORMULAS[name], X)[1:-1]
    smooth = np.abs(np.diff(FORMULAS[name], 2)) < 2e-3  # not at a corner
    assert found.slope.numpy()[1:-1][smooth] == pytest.approx(middle[smooth], abs=2e-3)


@pytest.mark.parametrize("name", sorted(set(activations()) - ACROSS))
def test_every_function_of_one_number_has_a_curve(name: str) -> None:
    assert bool(curve(name).y.isfinite().all())


@pytest.mark.parametrize("name", sorted(ACROSS))
def test_others_have_none(name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' has no curve"):
        curve(name)


@pytest.mark.parametrize(("p1", "p2", "beta"), [(1.2, -0.8, 2.0), (0.3, 1.4, 0.7)])
def test_bounds_are_reached_and_not_left(p1: float, p2: float, beta: float) -> None:
    found = curve(f"acon-c:p1={p1},p2={p2},beta={beta}", reach=40, points=40001)
    assert found.bounds is not None
    assert found.bounds == pytest.approx((float(found.slope.min()), float(found.slope.max())), abs=1e-5)


def test_bounds_stand_only_where_they_hold() -> None:
    assert curve("acon-c:beta=0").bounds is None
    assert curve("relu").bounds is None
    assert curve("meta-acon-pixel").bounds is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("acon-c:q=1", "'acon-c' has no learnable value 'q': it has p1, p2, beta"),
        ("relu:p1=1", "'relu' has no learnable value 'p1': it learns nothing"),
        ("acon-c:p1=one", "p1='one' is no number; write p1=1.5"),
    ],
)
def test_values_that_cannot_be_set(name: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        curve(name)


def test_unknown_names_and_empty_lists() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'acon-c'"):
        curve("acon-cc")
    with pytest.raises(SettingsError, match="nothing to draw"):
        function_curves([])
    with pytest.raises(SettingsError, match="reach=0"):
        curve("relu", reach=0)


def lines_of(figure: Figure, panel: int) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in figure.axes[panel].get_lines()]


def test_function_figure_holds_curves_slopes_and_bounds() -> None:
    figure = function_curves(["relu", "acon-c:p1=1.2,p2=-0.8", "silu", "acon-c:p1=1.2,p2=-0.8"])
    _, *curves = lines_of(figure, 0)
    assert len(curves) == 3  # a name given twice is drawn once
    assert curves[1] == pytest.approx(acon(X, 1.2, -0.8, 1))
    levels = [line[0] for line in lines_of(figure, 1) if len(line) == 2]
    assert levels == pytest.approx([1.0998 * -0.8 - 0.0998 * 1.2, 1.0998 * 1.2 + 0.0998 * 0.8], abs=1e-3)
    hues = {to_hex(line.get_color()) for line in figure.axes[0].get_lines()[1:]}
    assert len(hues) == 3


def test_two_of_one_hue_are_told_apart() -> None:
    figure = function_curves(["silu", "gelu", "swish", "hardswish"])
    assert len({to_hex(line.get_color()) for line in figure.axes[0].get_lines()[1:]}) == 4


def test_family_figure_is_the_paper_s() -> None:
    figure = family_curves()
    pairs = [(1, 0), (1.2, -0.1), (0.8, 0.1)]
    for line, (p1, p2) in zip(lines_of(figure, 0), pairs, strict=True):
        assert line == pytest.approx(acon(X, p1, p2, 1))
    for line, beta in zip(lines_of(figure, 1), (2, 1, 0.1), strict=True):
        assert line[1:-1] == pytest.approx(np.gradient(acon(X, 1, 0, beta), X)[1:-1], abs=1e-3)
    levels = [line[0] for line in lines_of(figure, 2) if len(line) == 2]
    expected = [bound for p1, p2 in pairs for bound in (1.0998 * p2 - 0.0998 * p1, 1.0998 * p1 - 0.0998 * p2)]
    assert levels == pytest.approx(expected, abs=1e-3)


def test_switching_goes_from_the_mean_to_the_maximum() -> None:
    *curves, sharp = lines_of(switching_curves(1.2, -0.8, [0, 1, 1000]), 0)
    assert curves[0] == pytest.approx(0.2 * X)
    assert sharp == pytest.approx(np.maximum(1.2 * X, -0.8 * X))
    assert curves[2] == pytest.approx(sharp, abs=3e-4)
    with pytest.raises(SettingsError, match="betas holds 0 values"):
        switching_curves(betas=[])
    with pytest.raises(SettingsError, match="only finite"):
        switching_curves(p1=math.nan)


def test_each_maxout_member_stands_beside_its_acon() -> None:
    figure = maxout_pairs()
    for panel, (p1, p2) in enumerate([(1, 0), (1, 0.25), (1.2, -0.4)]):
        smooth, sharp = lines_of(figure, panel)
        assert smooth == pytest.approx(acon(X, p1, p2, 1))
        assert sharp == pytest.approx(np.maximum(p1 * X, p2 * X))


def test_network_figure_joins_the_means() -> None:
    errors = {"resnet8": {"identity": [10.0, 12.0], "relu": [3.0]}, "resnet14": {"identity": [11.0]}}
    [axes] = network_errors(errors).axes
    means = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    assert [list(np.asarray(line.get_ydata())) for line in means] == [[11.0, 11.0], [3.0]]
    dots = [list(np.asarray(line.get_ydata())) for line in axes.get_lines() if line.get_linestyle() == "None"]
    assert dots == [[10.0, 12.0], [11.0], [3.0]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["resnet8", "resnet14"]
    with pytest.raises(SettingsError, match="no errors to draw"):
        network_errors({"resnet8": {}})


def test_layer_figures() -> None:
    columns = {"dead": {"a": [0.0, 1.0], "b": [0.0, 0.0]}, "gradient": {"b": [0.0, 2e-3, 4e-3]}}
    figure = layer_spread(columns, log=("gradient",))
    dots = [
        [line.get_xydata().ravel().tolist() for line in axes.get_lines() if line.get_marker() == "o"]  # type: ignore[union-attr]
        for axes in figure.axes
    ]
    assert dots == [[[0.5, 0.0], [0.0, 1.0]], [[pytest.approx(3e-3), 1.0]]]
    assert figure.axes[1].get_xlim() == pytest.approx((1e-3, 1e-2))
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]  # the first layer stands on top
    layer_spread({"gradient": {"b": [0.0, 0.0]}}, log=("gradient",))
    with pytest.raises(SettingsError, match="no layers"):
        layer_spread({})
    bars = state_bars({"a": {"linear": 0.5, "activated": 0.5}, "b": {"linear": 1.0, "activated": 0.0}}).axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 0.5), (0, 1), (0.5, 0.5), (1, 0)]  # type: ignore[attr-defined]
    with pytest.raises(ShapeError, match="b has the states linear"):
        state_bars({"a": {"linear": 0.5, "activated": 0.5}, "b": {"linear": 1.0}})


@pytest.mark.parametrize(
    ("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_files_by_their_ending(ending: str, start: bytes, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_figure(family_curves(), tmp_path / "new" / f"{name}.{ending}")
    one, two = ((tmp_path / "new" / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
    assert one.startswith(start)
    assert one == two


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"x.jpg: a figure is written as .png, .svg, .pdf"):
        write_figure(family_curves(), tmp_path / "x.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the figure"):
        write_figure(family_curves(), tmp_path / "file" / "x.png")


def test_torch_keeps_its_random_numbers() -> None:
    before = torch.get_rng_state()
    function_curves(["acon-c", "relu"])
    assert torch.equal(torch.get_rng_state(), before)
