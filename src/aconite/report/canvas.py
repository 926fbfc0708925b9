"""What all figures share: the sheet, the look of the axes, and the check that values can be drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aconite.errors import SettingsError, ShapeError
from aconite.report.palette import GRID, INK

__all__ = ["Array", "dashed", "folded", "legend", "numbers", "panels", "sheet", "style"]

Array = NDArray[np.float64]

_WIDTH = 8.4  # inches; at 96 px an inch it fits the page's column, so 9 pt text stays 9 pt


def numbers(values: Sequence[float], what: str) -> Array:
    """A 1-D float64 array of finite numbers, at least one; else an error that begins with ``what``."""
    try:
        array: Array = torch.as_tensor(values, dtype=torch.float64).detach().cpu().numpy()
    except (TypeError, ValueError, RuntimeError):
        raise SettingsError(f"{what}: expected a flat sequence of numbers, got {values!r:.60}") from None
    if array.ndim != 1:
        raise ShapeError(f"{what}: expected a flat sequence of numbers, got shape {array.shape}")
    if array.size == 0:
        raise SettingsError(f"{what}: no values; leave it out, or pass at least one number")
    if not np.isfinite(array).all():
        at = int(np.flatnonzero(~np.isfinite(array))[0])
        raise SettingsError(f"{what}: value {at} is {array[at]}; only finite numbers can be drawn, leave it out")
    return array


def sheet(height: float) -> Figure:
    """An empty figure, ``height`` inches high."""
    return Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")


def panels(*labels: str) -> tuple[Figure, list[Axes]]:
    """A row of panels over x, one for each y label."""
    figure = sheet(3.2 if len(labels) > 1 else 3.8)
    grid = list(figure.subplots(1, len(labels), squeeze=False)[0])
    for axes, label in zip(grid, labels, strict=True):
        style(axes)
        axes.set(xlabel="x", ylabel=label)
        axes.margins(x=0)
    return figure, grid


def style(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Set the look on the axes themselves, so that neither rcParams nor the time of drawing changes it."""
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=INK, linewidth=0.8)
    axes.tick_params(which="both", colors=INK, labelsize=8.5, width=0.8, length=3)
    axes.grid(True, axis=grid, color=GRID, linewidth=0.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=9.5)


def folded(name: str, width: int = 30) -> str:
    """A long name on several lines: on one it would leave no room for the axes."""
    return "\n".join(textwrap.wrap(name, width)) or name


def dashed(**look: Any) -> dict[str, Any]:
    """The thin dashed line, for what a reader compares with."""
    return {"linewidth": 0.9, "linestyle": (0, (4, 2)), **look}


def legend(
    figure: Figure,
    entries: Sequence[tuple[Artist, str]],
    place: Literal["outside right upper", "outside upper right"],
    columns: int = 1,
) -> None:
    """A legend outside the axes. Names are shown as they are: ``$`` in one starts no formula."""
    box = figure.legend(
        [line for line, _ in entries],
        [folded(name) for _, name in entries],
        loc=place,
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=2.6,
    )
    for text in box.get_texts():
        text.set_parse_math(False)
