"""The functions of a layer's channels: what they are, and how few of them and many of them are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aconite.errors import ShapeError
from aconite.reference import acon_c
from aconite.report.canvas import Array, numbers
from aconite.report.palette import colour

__all__ = ["LayerParameters", "channel_curves", "channel_entry", "draw_channels"]

_LINES = 64
"""Channels up to which each is a line of its own; 1024 lines take 1.5 MB of SVG, the bands 0.03."""
_BANDS = ((0.0, 1.0), (0.05, 0.95), (0.15, 0.85), (0.25, 0.75), (0.35, 0.65), (0.45, 0.55))
"""Shares of the channels, from all of them to the middle tenth, one shade each."""


class LayerParameters(NamedTuple):
    """ACON-C's learnt parameters in one layer, each with one number per channel."""

    p1: Sequence[float]
    p2: Sequence[float]
    beta: Sequence[float]


def channel_curves(title: str, layer: LayerParameters) -> Array:
    """(channels, points, 2): x and y of every channel, for −4 ≤ x ≤ 4."""
    values = [numbers(value, f"{title}: {name}") for name, value in zip(layer._fields, layer, strict=True)]
    if len({value.size for value in values}) > 1:
        sizes = ", ".join(f"{name} {value.size}" for name, value in zip(layer._fields, values, strict=True))
        raise ShapeError(f"{title}: p1, p2 and beta need one number per channel each, got {sizes}")
    p1, p2, beta = (torch.from_numpy(value)[:, None] for value in values)
    x = torch.linspace(-4, 4, 81, dtype=torch.float64).expand(len(p1), -1)
    lines: Array = torch.stack([x, acon_c(x, p1, p2, beta)], dim=-1).numpy()
    return lines


def channel_entry(lines: Sequence[Array]) -> tuple[Artist, str]:
    """What a legend says of these panels' channels."""
    if any(len(panel) <= _LINES for panel in lines):
        return Line2D([], [], color=colour("acon-c"), linewidth=1.0), "one channel"
    return Patch(color=colour("acon-c"), alpha=0.4, linewidth=0), "a share of the channels"


def draw_channels(axes: Axes, lines: Array) -> None:
    """Draw (channels, points, 2), which share their x: translucent lines, or bands where there are too many.

    At each x the palest band holds all channels, the darkest the middle tenth.
    """
    if len(lines) <= _LINES:
        alpha = min(0.9, 2 / math.sqrt(len(lines)))
        bundle = LineCollection(list(lines), colors=colour("acon-c"), alpha=alpha, linewidths=1.0)
        axes.add_collection(bundle, autolim=False)
        return
    for band in _BANDS:
        low, high = np.quantile(lines[:, :, 1], band, axis=0)
        axes.fill_between(lines[0, :, 0], low, high, color=colour("acon-c"), alpha=0.2, linewidth=0)
