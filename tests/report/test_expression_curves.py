from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from aconite.errors import SettingsError
from aconite.report import expression_curves


def test_every_channel_and_the_start_are_drawn() -> None:
    layers = [{"beta": [0.5, 2.0]}, {"beta": [-1.0]}]
    figure = expression_curves({"x * sigmoid(beta * x)": layers, "sin(x)": [], "x ** 3": [{}]})
    swish, sine, cube = figure.axes
    [bundle] = [item for item in swish.collections if isinstance(item, LineCollection)]
    for beta, line in zip([0.5, 2.0, -1.0], bundle.get_segments(), strict=True):
        x, y = np.asarray(line).T
        np.testing.assert_allclose(y, x / (1 + np.exp(-beta * x)), atol=1e-5)
    start = swish.get_lines()[0]
    x = np.asarray(start.get_xdata())
    np.testing.assert_allclose(start.get_ydata(), x / (1 + np.exp(-x)), atol=1e-5)
    assert not sine.collections
    np.testing.assert_allclose(sine.get_lines()[0].get_ydata(), np.sin(x), atol=1e-5)
    assert cube.get_ylim()[1] < 10  # 64 at the edge


@pytest.mark.parametrize(
    ("learnt", "words"),
    [
        ({}, "no formulas"),
        ({"x * (": []}, "cannot read"),
        ({"beta * x": [{"beta": [math.nan]}]}, "beta of beta \\* x: value 0 is nan"),
        ({"beta * x": [{"p1": [1.0]}]}, "one number per channel for each of beta"),
        ({"p1 * x + beta": [{"p1": [1.0], "beta": [1.0, 2.0]}]}, "one number per channel for each of beta, p1"),
    ],
)
def test_mistakes(learnt: dict[str, list[dict[str, list[float]]]], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        expression_curves(learnt)
