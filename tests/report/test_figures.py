"""The figures hold what they were given, look alike for the same name, and refuse bad input in clear words."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from aconite.errors import AconiteError, SettingsError, ShapeError
from aconite.nn import activations
from aconite.report import LayerParameters, activation_curves, beta_histograms, colour, training_curves
from aconite.report.palette import _BY_HUE, INK, ON_DARK, marker

DEFAULTS = ("relu", "silu", "acon-c", "meta-acon", "se-relu")


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# Colours


def luminance(rgb: np.ndarray) -> float:
    return float(rgb @ [0.2126, 0.7152, 0.0722])


def linear(hue: str) -> np.ndarray:
    channels = np.array([int(hue[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(linear(one)), luminance(linear(other))))
    return (high + 0.05) / (low + 0.05)


# Machado, Oliveira, Fernandes 2009, severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def oklab(rgb: np.ndarray) -> np.ndarray:
    to_lms = np.array(
        [
            [0.41222147, 0.53633254, 0.05144599],
            [0.2119035, 0.6806995, 0.1073970],
            [0.0883025, 0.2817188, 0.6299787],
        ]
    )
    to_lab = np.array(
        [
            [0.2104543, 0.7936178, -0.0040720],
            [1.9779985, -2.4285922, 0.4505937],
            [0.0259040, 0.7827718, -0.8086758],
        ]
    )
    return to_lab @ np.cbrt(to_lms @ rgb.clip(0, 1))


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_default_activations_are_told_apart(sight: str, theme: str) -> None:
    """0.02 in OKLab is just noticeable side by side; thin lines need more, and each name has its marker besides."""
    hues = {name: colour(name) if theme == "light" else ON_DARK[colour(name)] for name in DEFAULTS}
    seen = {name: oklab(SIGHT[sight] @ linear(hue)) for name, hue in hues.items()}
    for one, other in itertools.combinations(DEFAULTS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.04, (one, other)


def test_every_colour_is_legible_in_both_themes() -> None:
    for light, dark in ON_DARK.items():
        if light not in ("#ffffff", "#d8dde3"):
            assert contrast(light, "#ffffff") >= 3, light
            assert contrast(dark, ON_DARK["#ffffff"]) >= 3, dark
    assert contrast(INK, "#ffffff") >= 7


def test_no_two_known_activations_look_the_same() -> None:
    looks = {(colour(name), marker(name)) for name in activations()}
    assert len(looks) == len(activations())
    assert {name for names in _BY_HUE.values() for name in names} >= set(activations())


def test_colour_depends_on_the_name_alone() -> None:
    assert colour("meta-acon, image 3") == colour("Meta_ACON") == colour("meta-acon")
    assert colour("relu6") == colour("relu"), "one family, told apart by marker"
    assert colour("x * sigmoid(beta * x)") == "#0072b2", "the same on every machine and in every process"
    assert colour("acon-c-mine") != INK


# Training curves


def runs(seeds: int, epochs: int, start: float = 50.0) -> list[list[float]]:
    return [[start / (epoch + 1) + seed for epoch in range(epochs)] for seed in range(seeds)]


def test_training_curves_draw_mean_and_band() -> None:
    train = {"relu": runs(3, 12), "acon-c": runs(3, 12, 30.0)}
    test = {"relu": runs(3, 12, 60.0), "acon-c": runs(3, 12, 40.0)}
    figure = training_curves(train, test)
    [axes] = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"relu, test", "relu, train", "acon-c, test", "acon-c, train"}
    np.testing.assert_allclose(lines["relu, test"].get_xdata(), np.arange(1, 13))
    np.testing.assert_allclose(lines["relu, test"].get_ydata(), np.mean(test["relu"], axis=0))
    np.testing.assert_allclose(lines["acon-c, train"].get_ydata(), np.mean(train["acon-c"], axis=0))
    assert lines["acon-c, test"].get_color() == lines["acon-c, train"].get_color() == colour("acon-c")
    assert legend_of(figure) == ["relu", "acon-c", "test", "train"], "the worst last test error on top"
    bands = [band.get_paths()[0].get_extents() for band in axes.collections]
    assert [(band.y0, band.y1) for band in bands] == [(60 / 12, 60 + 2), (40 / 12, 40 + 2)]
    assert axes.get_title(loc="left") == "mean of 3 seeds; band: smallest to largest test error"
    assert axes.get_ylim()[1] == pytest.approx(1.04 * (60 / 3 + 2)), "two of twelve epochs leave the frame"


def test_training_curves_of_one_seed_and_one_epoch() -> None:
    figure = training_curves({"relu": [[0.0]]}, {"relu": [[0.0]]})
    [axes] = figure.axes
    assert len(axes.collections) == 0
    assert axes.get_title(loc="left") == "one seed"
    assert axes.get_ylim()[1] > 0


@pytest.mark.parametrize(
    ("train", "test", "kind", "message"),
    [
        ({}, {}, SettingsError, "at least one activation"),
        ({"relu": [[1.0]]}, {"silu": [[1.0]]}, SettingsError, "only one of them holds relu, silu"),
        ({"relu": [[1.0]]}, {"relu": []}, SettingsError, "test error of relu: no seeds"),
        ({"relu": [[]]}, {"relu": [[1.0]]}, SettingsError, "train error of relu, seed 0: no values"),
        (
            {"relu": [[1.0, 2.0], [1.0]]},
            {"relu": [[1.0]]},
            ShapeError,
            r"train error of relu: .* \[1, 2\] epochs",
        ),
        (
            {"relu": [[1.0]]},
            {"relu": [[float("nan")]]},
            SettingsError,
            "test error of relu, seed 0: value 0 is nan",
        ),
        (
            {"relu": [["a"]]},
            {"relu": [[1.0]]},
            SettingsError,
            "train error of relu, seed 0: expected a flat sequence",
        ),
        (
            {"relu": [[[1.0]]]},
            {"relu": [[1.0]]},
            ShapeError,
            r"expected a flat sequence of numbers, got shape \(1, 1\)",
        ),
    ],
)
def test_training_curves_refuse(train: dict, test: dict, kind: type[AconiteError], message: str) -> None:
    with pytest.raises(kind, match=message):
        training_curves(train, test)


# Activation curves


def bundle_of(figure: Figure, panel: int) -> LineCollection:
    [bundle] = figure.axes[panel].collections
    assert isinstance(bundle, LineCollection)
    return bundle


def test_activation_curves_are_acon_c() -> None:
    p1, p2, beta = [1.0, 1.2, 0.5], [0.0, -0.1, 0.5], [1.0, 3.0, -2.0]
    figure = activation_curves({"a": LayerParameters(p1, p2, beta), "b": LayerParameters([1.0], [0.0], [1.0])})
    assert [axes.get_title() for axes in figure.axes] == ["a (3 channels)", "b (1 channel)"]
    assert [len(bundle_of(figure, panel).get_segments()) for panel in range(2)] == [3, 1]
    for segment, a, b, k in zip(bundle_of(figure, 0).get_segments(), p1, p2, beta, strict=True):
        x, y = segment.T
        np.testing.assert_allclose(y, (a - b) * x / (1 + np.exp(-k * (a - b) * x)) + b * x, atol=1e-12)
        assert (x[0], x[-1]) == (-4, 4)
    [relu] = figure.axes[0].get_lines()
    np.testing.assert_array_equal(relu.get_xydata(), [[-4, 0], [0, 0], [4, 4]])
    assert legend_of(figure) == ["one channel", "relu"]


@pytest.mark.parametrize("layers", range(1, 8))
def test_every_column_of_panels_has_its_axis_below(layers: int) -> None:
    parameters = LayerParameters([1.0], [0.0], [1.0])
    figure = activation_curves({f"layer {number}": parameters for number in range(layers)})
    assert len(figure.axes) == layers
    labelled = [axes.get_xlabel() == "x" for axes in figure.axes]
    columns = min(3, layers)
    assert labelled == [False] * (layers - columns) + [True] * columns
    assert {axes.get_xlim() for axes in figure.axes} == {(-4, 4)}
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_activation_curves_take_parameters_as_they_are() -> None:
    p1 = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    figure = activation_curves({"a": LayerParameters(p1, torch.zeros(2), np.ones(2))})  # type: ignore[arg-type]
    assert len(bundle_of(figure, 0).get_segments()) == 2


def test_many_channels_become_bands() -> None:
    slopes = np.linspace(0.2, 1.2, 81)
    few, many = (LayerParameters(list(p1), [0.0] * len(p1), [1.0] * len(p1)) for p1 in (slopes[:64], slopes))
    figure = activation_curves({"few": few, "many": many})
    assert len(bundle_of(figure, 0).get_segments()) == 64
    bands = [band.get_paths()[0].vertices for band in figure.axes[1].collections]
    ends = [sorted(set(np.round(band[band[:, 0] == 4.0][:, 1], 6))) for band in bands]
    at = [4 * slope / (1 + math.exp(-4 * slope)) for slope in slopes]  # the values at x = 4
    assert (ends[0][0], ends[0][-1]) == pytest.approx((at[0], at[-1]))
    assert (ends[1][0], ends[1][-1]) == pytest.approx((at[4], at[76]))
    assert (ends[3][0], ends[3][-1]) == pytest.approx((at[20], at[60]))
    assert all(outer[0] < inner[0] < inner[-1] < outer[-1] for outer, inner in itertools.pairwise(ends))
    assert not any(artist.get_rasterized() for artist in figure.findobj())


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ({}, SettingsError, "at least one layer"),
        ({"stem": LayerParameters([], [], [])}, SettingsError, "stem: p1: no values"),
        ({"stem": LayerParameters([1.0], [0.0, 0.0], [1.0])}, ShapeError, "stem: .* got p1 1, p2 2, beta 1"),
        (
            {"stem": LayerParameters([1.0], [0.0], [float("inf")])},
            SettingsError,
            "stem: beta: value 0 is inf",
        ),
    ],
)
def test_activation_curves_refuse(layers: dict, kind: type[AconiteError], message: str) -> None:
    with pytest.raises(kind, match=message):
        activation_curves(layers)


# Histograms of β


def test_beta_histograms_share_their_bins() -> None:
    values = {"acon-c, all images": [0.0, 0.5, 1.0], "meta-acon, image 1": [2.0, 2.0, 3.0, 4.0]}
    figure = beta_histograms(values, title="last block")
    filled = [axes.patches[0] for axes in figure.axes]
    edges = [patch.get_data().edges for patch in filled]
    np.testing.assert_array_equal(edges[0], edges[1])
    assert (edges[0][0], edges[0][-1]) == (0, 4)
    for patch, series in zip(filled, values.values(), strict=True):
        counts = np.histogram(series, edges[0])[0]
        np.testing.assert_allclose(patch.get_data().values, counts / counts.max())
    assert [axes.get_ylabel() for axes in figure.axes] == list(values)
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [
        ["median 0.5", "n = 3"],
        ["median 2.5", "n = 4"],
    ]
    assert figure.get_suptitle() == "last block"
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "β"]


@pytest.mark.parametrize("value", [0.0, 1.0, -27.85, 1e-300, 1e12])
def test_a_constant_series_is_one_bar_amid_the_axis(value: float) -> None:
    [axes] = beta_histograms({"acon-a": [value] * 5}).axes
    data = axes.patches[0].get_data()
    assert np.count_nonzero(data.values) == 1
    bar = int(np.argmax(data.values))
    assert (data.edges[bar] + data.edges[bar + 1]) / 2 == pytest.approx(value, abs=1e-9 * max(1, abs(value)))
    assert data.edges[0] < value < data.edges[-1]
    assert axes.texts[0].get_text().startswith("all ")


def test_nearly_constant_series() -> None:
    [axes] = beta_histograms({"acon-a": [1.0, 1.0 + 1e-15]}).axes
    assert np.isfinite(axes.patches[0].get_data().values).all()


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "at least one series"),
        ({"image 1": []}, "beta of image 1: no values"),
        ({"image 1": [1.0, float("nan")]}, "beta of image 1: value 1 is nan"),
    ],
)
def test_beta_histograms_refuse(series: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        beta_histograms(series)
