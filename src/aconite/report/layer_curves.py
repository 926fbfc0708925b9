"""How the functions of a layer's many channels are spread: a density instead of one line for each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from aconite.errors import SettingsError
from aconite.report.canvas import dashed, sheet, style
from aconite.report.figures import LayerParameters, _curves
from aconite.report.palette import INK, colour

__all__ = ["channel_density"]

_SINGLE = 24
"""Channels up to which each is a line of its own."""
_BANDS = ((0.0, 1.0), (0.05, 0.95), (0.15, 0.85), (0.25, 0.75), (0.35, 0.65), (0.45, 0.55))
"""Shares of the channels, from all of them to the middle tenth, one shade each."""


def channel_density(layers: Mapping[str, LayerParameters]) -> Figure:
    """The functions that a network's channels have learnt, as a density, one panel per layer; ReLU is dashed.

    At each x the panel shows how the channels' values are spread: the palest band holds all of them, the darkest the
    middle tenth. It takes as much room for a thousand channels as for thirty, where `activation_curves` draws each one;
    up to 24 channels are lines here as well.

    Args:
        layers: the panel's title -> the layer's parameters, three sequences of one length.

    Raises:
        SettingsError: nothing to draw, or a parameter that is not finite.
        ShapeError: p1, p2 and beta of different lengths.

    >>> figure = channel_density({"stage 2": LayerParameters([1.0, 0.8], [0.0, -0.1], [1.0, 1.5])})
    >>> figure.axes[0].get_title()
    'stage 2 (2 channels)'
    """
    if not layers:
        raise SettingsError("there are no layers to draw; pass at least one")
    found = {title: _curves(title, layer) for title, layer in layers.items()}
    columns = min(3, len(found))
    rows = math.ceil(len(found) / columns)
    figure = sheet(0.3 + 2.3 * rows if columns > 1 else 3.6)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    ends = np.concatenate([lines[:, [0, -1], 1].ravel() for lines in found.values()])
    low, high = (float(end) for end in np.quantile(ends, [0.02, 0.98]))
    low, high = min(low, -0.5) * 1.05, max(high, 4.0) * 1.05
    for axes, (title, lines) in zip(grid.flat, found.items(), strict=False):
        style(axes)
        between = "\n" if len(title) > 20 else " "
        axes.set_title(f"{title}{between}({len(lines):,} channels)", color=INK, fontsize=9, parse_math=False)
        x, values = lines[0, :, 0], lines[:, :, 1]
        if len(lines) <= _SINGLE:
            axes.plot(x, values.T, color=colour("acon-c"), alpha=0.6, linewidth=1)
        else:
            for band in _BANDS:
                axes.fill_between(x, *np.quantile(values, band, axis=0), color=colour("acon-c"), alpha=0.2, linewidth=0)
        axes.plot([-4, 0, 4], [0, 0, 4], **dashed(color=INK))
        axes.set(xlim=(-4, 4), ylim=(low, high))
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    for axes in list(grid.flat)[: len(found)][-columns:]:  # those with none below
        axes.set_xlabel("x")
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel("y(x)")
    return figure
