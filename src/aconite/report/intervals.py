"""Differences with their intervals, one below the other, beside the line that says "no difference"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.figure import Figure

from aconite.errors import SettingsError
from aconite.report.canvas import dashed, folded, numbers, sheet, style
from aconite.report.palette import INK, colour

__all__ = ["Interval", "interval_chart"]


class Interval(NamedTuple):
    """A mean and its interval, whose bounds are None where one seed allows none."""

    mean: float
    low: float | None = None
    high: float | None = None


def interval_chart(differences: Mapping[str, Interval], label: str = "difference in points of test error") -> Figure:
    """A dot at each mean and a line over its interval; what crosses the dashed line at 0 may be no difference at all.

    Args:
        differences: label -> mean and interval; a label that begins with an activation's name gets its colour.
        label: of the axis.

    Raises:
        SettingsError: nothing to draw, or a value that is not finite.

    >>> figure = interval_chart({"acon-c": Interval(-0.5, -0.9, -0.1), "silu": Interval(0.2)})
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['acon-c', 'silu']
    """
    if not differences:
        raise SettingsError("there are no differences to draw; pass at least one")
    figure = sheet(0.9 + 0.34 * len(differences))
    axes = figure.add_subplot()
    style(axes, grid="x")
    axes.axvline(0, **dashed(color=INK))
    for place, (name, interval) in enumerate(differences.items()):
        bounds = numbers([value for value in interval if value is not None], f"difference of {name}")
        axes.plot(bounds[:1], [place], "o", color=colour(name), markersize=6)
        axes.plot([bounds.min(), bounds.max()], [place, place], color=colour(name), linewidth=2)
    axes.set_yticks(range(len(differences)), [folded(name, 44) for name in differences], parse_math=False)
    axes.set(xlabel=label, ylim=(len(differences) - 0.5, -0.5))
    return figure
