from __future__ import annotations

import itertools
import math

import pytest
from matplotlib.colors import to_hex

from aconite.errors import SettingsError
from aconite.report import Page, colour, gain_bars

PUBLISHED = {"small": {"swish": 0.8, "meta-acon": 2.7}, "large": {"meta-acon": 1.8}}


def bars(figure):
    """(left edge, height, colour, alpha) of every bar."""
    return [
        (bar.get_x(), bar.get_height(), to_hex(bar.get_facecolor()), bar.get_alpha()) for bar in figure.axes[0].patches
    ]


def test_published_alone() -> None:
    found = bars(gain_bars(PUBLISHED))
    assert [(height, hue) for _, height, hue, _ in found] == [
        (0.8, colour("swish")),
        (2.7, colour("meta-acon")),
        (1.8, colour("meta-acon")),
    ]
    assert {alpha for *_, alpha in found} == {0.3}


def test_measured_bars_stand_beside_and_do_not_overlap() -> None:
    figure = gain_bars(PUBLISHED, {"small": {"meta-acon": [1.0, 2.0, 4.5]}, "large": {"meta-acon": [-0.5]}})
    axes = figure.axes[0]
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches)
    assert all(right <= left + 1e-9 for (_, right), (left, _) in itertools.pairwise(spans))
    assert [height for _, height, _, alpha in bars(figure) if alpha is None] == pytest.approx([2.5, -0.5])
    [whisker] = axes.collections  # of the one with several seeds
    [segment] = whisker.get_segments()
    assert [point[1] for point in segment] == [1.0, 4.5]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["small", "large"]


def test_legend_tells_pale_from_full_only_where_there_is_both() -> None:
    def texts(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert texts(gain_bars(PUBLISHED)) == ["swish", "meta-acon", "pale: published"]
    assert "full: measured here" in texts(gain_bars(PUBLISHED, {"large": {"meta-acon": [1.0]}}))


@pytest.mark.parametrize(
    ("published", "measured", "told"),
    [
        ({}, None, "no gains to draw"),
        ({"small": {}}, None, "no gains to draw"),
        ({"small": {"swish": math.nan}}, None, "published gain of swish in small: value 0 is nan"),
        (PUBLISHED, {"small": {"swish": []}}, "measured gain of swish in small: no values"),
        (PUBLISHED, {"large": {"swish": [1.0]}}, "large: swish was measured but has no published gain"),
        (PUBLISHED, {"huge": {"swish": [1.0]}}, "huge: swish was measured but has no published gain"),
    ],
)
def test_mistakes(published, measured, told) -> None:
    with pytest.raises(SettingsError, match=told):
        gain_bars(published, measured)


def test_goes_into_a_page() -> None:
    page = Page("Gains")
    page.figure(gain_bars(PUBLISHED), alt="Bars of two networks.")
    assert "gain over ReLU in points" in page.render()
