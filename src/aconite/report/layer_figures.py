"""Figures with a row for each layer, from the first to the last, as an inspection measures them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from aconite.errors import SettingsError, ShapeError
from aconite.report.canvas import folded, legend, numbers, sheet, style
from aconite.report.palette import HUES, INK

__all__ = ["layer_spread", "state_bars"]


def layer_spread(
    columns: Mapping[str, Mapping[str, Sequence[float]]], *, log: Collection[str] = (), hue: str = HUES[1]
) -> Figure:
    """Per-channel numbers, a row for each layer and a panel for each kind of number.

    The dot is the mean over the channels; the line reaches from the 5th to the 95th percentile.

    Args:
        columns: the panel's title -> layer -> one number per channel; a layer may be missing from a panel. The first
            panel's layers give the order, top to bottom.
        log: titles of panels with a logarithmic axis; zeros are left out there.
        hue: colour of dots and lines.

    Raises:
        SettingsError: nothing to draw, or a value that is not finite.

    >>> figure = layer_spread({"dead": {"act1": [0.0, 1.0], "act2": [0.0]}})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['act1', 'act2']
    """
    names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
    if not names:
        raise SettingsError("there are no layers to draw; pass at least one panel with one layer")
    figure = sheet(0.9 + 0.26 * len(names))
    grid = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (title, rows) in zip(grid, columns.items(), strict=True):
        style(axes)
        for at, name in enumerate(names):
            if name not in rows:
                continue
            values = numbers(rows[name], f"{title} of {name}")
            values = values[values > 0] if title in log else values
            if values.size:
                low, high = np.quantile(values, [0.05, 0.95])
                axes.plot([low, high], [at, at], color=hue, linewidth=1.6, alpha=0.55, solid_capstyle="butt")
                axes.plot(values.mean(), at, "o", color=hue, markersize=4.5, clip_on=False)
        if title in log:
            low, high = axes.dataLim.intervalx
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            if 0 < low <= high < math.inf:  # whole decades, so that two of them have a label
                axes.set_xlim(10 ** math.floor(math.log10(low)), 10 ** (math.floor(math.log10(high)) + 1))
        elif axes.dataLim.x0 >= 0:
            axes.set_xlim(0, max(1.05 * axes.dataLim.x1, 0.02))
        axes.set_title(folded(title, 22), color=INK, fontsize=9, parse_math=False)
    _layers_down(grid[0], names)
    return figure


def state_bars(states: Mapping[str, Mapping[str, float]]) -> Figure:
    """The shares of channels in each state, one bar for each layer.

    Args:
        states: layer -> state -> share; every layer with the same states, in one order.

    Raises:
        SettingsError: nothing to draw.
        ShapeError: layers with different states.

    >>> figure = state_bars({"act1": {"linear": 0.25, "switching": 0.5, "activated": 0.25}})
    >>> [float(bar.get_width()) for bar in figure.axes[0].patches]
    [0.25, 0.5, 0.25]
    """
    if not states:
        raise SettingsError("there are no layers to draw; pass at least one")
    kinds = list(next(iter(states.values())))
    if odd := [name for name, shares in states.items() if list(shares) != kinds]:
        raise ShapeError(f"{odd[0]} has the states {', '.join(states[odd[0]])}, but the first {', '.join(kinds)}")
    figure = sheet(0.9 + 0.26 * len(states))
    axes = figure.add_subplot()
    style(axes, grid="x")
    before = np.zeros(len(states))
    strengths = np.linspace(0.2, 1, len(kinds))
    for kind, strength in zip(kinds, strengths, strict=True):
        shares = np.array([of_layer[kind] for of_layer in states.values()])
        axes.barh(range(len(states)), shares, 0.7, before, color=HUES[0], alpha=strength)
        before += shares
    axes.set(xlim=(0, 1), xlabel="share of channels")
    _layers_down(axes, list(states))
    entries = [(Patch(color=HUES[0], alpha=strength), kind) for kind, strength in zip(kinds, strengths, strict=True)]
    legend(figure, entries, "outside upper right", len(kinds))
    return figure


def _layers_down(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [folded(name, 26) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
