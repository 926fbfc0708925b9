"""How the functions of a layer's many channels are spread: a density instead of one line for each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from aconite.errors import SettingsError
from aconite.report.canvas import Array, dashed, sheet, style
from aconite.report.figures import LayerParameters, _curves
from aconite.report.palette import INK, colour

__all__ = ["channel_density"]

_ROWS = 64


def channel_density(layers: Mapping[str, LayerParameters]) -> Figure:
    """The functions that a network's channels have learnt, as a density, one panel per layer; ReLU is dashed.

    At each x the panel shows how the channels' values are spread: the darker, the more channels pass there. It takes
    as much room for a thousand channels as for ten, where `activation_curves` draws each one.

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
    shade = LinearSegmentedColormap.from_list("channels", [colour("acon-c") + "00", colour("acon-c")])
    for axes, (title, lines) in zip(grid.flat, found.items(), strict=False):
        style(axes)
        between = "\n" if len(title) > 20 else " "
        axes.set_title(f"{title}{between}({len(lines):,} channels)", color=INK, fontsize=9, parse_math=False)
        axes.imshow(
            _density(lines, low, high),
            cmap=shade, aspect="auto", origin="lower", extent=(-4, 4, low, high), vmin=0, vmax=1,
            interpolation="nearest",
        )  # fmt: skip
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


def _density(lines: Array, low: float, high: float) -> Array:
    """(rows, points) from 0 to 1: how many channels' curves pass a cell, from where they enter its column to where they
    leave it. The root shows the few beside the many; at x = 0, where all meet, it would go on beyond 1.
    """
    edges = np.linspace(low, high, _ROWS + 1)
    y = lines[:, :, 1]
    ends = np.pad((y[:, 1:] + y[:, :-1]) / 2, ((0, 0), (1, 1)), mode="edge")  # where columns meet
    bottom, top = np.minimum(ends[:, :-1], ends[:, 1:]), np.maximum(ends[:, :-1], ends[:, 1:])
    counts = [((bottom < above) & (top >= below)).sum(0) for below, above in itertools.pairwise(edges)]
    density: Array = np.sqrt(np.stack(counts) / (len(lines) / 2))
    return density.clip(0, 1)
