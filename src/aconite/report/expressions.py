"""What the functions of a search look like: as they start, and as a network's channels have learnt them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aconite.errors import SettingsError
from aconite.nn import Expression
from aconite.report.canvas import Array, dashed, folded, legend, numbers, sheet, style
from aconite.report.channels import channel_entry, draw_channels
from aconite.report.palette import INK, colour

__all__ = ["expression_curves"]

_X = torch.linspace(-4, 4, 161)
_COLUMNS = 3


def expression_curves(learnt: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> Figure:
    """A panel for each formula: its start as a dark line, the channels that have learnt it light, ReLU dashed.

    Args:
        learnt: formula -> for each layer of a network, its parameters by name, one number per channel. A formula
            without parameters has its one curve.

    Raises:
        SettingsError: nothing to draw, a formula that cannot be read, a parameter that is not finite or missing.

    >>> figure = expression_curves({"x * sigmoid(beta * x)": [{"beta": [0.5, 2.0]}], "sin(x)": []})
    >>> [axes.get_title() for axes in figure.axes]
    ['x * sigmoid(beta * x)', 'sin(x)']
    """
    if not learnt:
        raise SettingsError("there are no formulas to draw; pass at least one")
    rows = math.ceil(len(learnt) / _COLUMNS)
    figure = sheet(0.6 + 2.3 * rows)
    grid = figure.subplots(rows, min(_COLUMNS, len(learnt)), squeeze=False)
    drawn: list[Array] = []
    for axes, (text, layers) in zip(grid.flat, learnt.items(), strict=False):
        style(axes)
        channels = np.concatenate([_curves(text, layer) for layer in layers if layer] or [np.empty((0, len(_X), 2))])
        if len(channels):
            draw_channels(axes, channels)
            drawn.append(channels)
        [start] = _curves(text, {})
        axes.plot(start[:, 0], start[:, 1], color=colour("silu"), linewidth=1.7)
        axes.plot([-4, 0, 4], [0, 0, 4], **dashed(color=INK))
        low, high = _limits(np.concatenate([channels[:, :, 1].ravel(), start[:, 1]]))
        axes.set(xlim=(-4, 4), ylim=(low, high))
        axes.set_title(folded(text, 34), color=INK, fontsize=8.5, parse_math=False)
    for axes in list(grid.flat)[len(learnt) :]:
        axes.remove()
    entries = [
        (Line2D([], [], color=colour("silu"), linewidth=1.7), "at the start"),
        channel_entry(drawn),
        (Line2D([], [], **dashed(color=INK)), "relu"),
    ]
    legend(figure, entries, "outside upper right", 3)
    return figure


def _curves(text: str, layer: Mapping[str, Sequence[float]]) -> Array:
    """(channels, points, 2): x and y of every channel; of an empty layer, the start's one curve."""
    values = {name: numbers(value, f"{name} of {text}") for name, value in layer.items()}
    channels = max((value.size for value in values.values()), default=1)
    module = Expression(text, channels, init="swish")
    wanted = {name for name, _ in module.named_parameters()}
    if values and (set(values) != wanted or len({value.size for value in values.values()}) > 1):
        raise SettingsError(f"{text}: expected one number per channel for each of {', '.join(sorted(wanted))}")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in values:
                parameter.copy_(torch.from_numpy(values[name]))
        y = module(_X[:, None].expand(-1, channels).contiguous()).T
    lines: Array = torch.stack([_X.expand(channels, -1), y], dim=-1).double().numpy()
    return lines


def _limits(values: Array) -> tuple[float, float]:
    """What the panel shows: most of the curves, and never more than eight units either way."""
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.01, 0.99]) if finite.size else (0.0, 1.0)
    low, high = max(-8.0, float(low)), min(8.0, float(high))
    room = 0.08 * max(high - low, 0.5)
    return low - room, high + room
