"""The paper's drawings of the family itself: nothing learnt, only the equations of `aconite.reference`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aconite import reference
from aconite.errors import SettingsError
from aconite.report.canvas import dashed, legend, panels
from aconite.report.palette import HUES, INK

__all__ = ["family_curves", "maxout_pairs", "switching_curves"]

_X = torch.linspace(-5, 5, 401, dtype=torch.float64)
_SLOPES = ((1.0, 0.0), (1.2, -0.1), (0.8, 0.1))
_BETAS = (2.0, 1.0, 0.1)


def family_curves() -> Figure:
    """What each of ACON-C's three numbers does (the paper's figure of section 3).

    Left: the function for three pairs of slopes (p1, p2) at β = 1. Middle: the derivative for three β at (1, 0): β
    sets how fast the bounds are reached. Right: the derivative for the three pairs, their bounds dotted: p1 and p2
    set what the bounds are.

    >>> [axes.get_title("left") for axes in family_curves().axes]
    ['β = 1', 'p1 = 1, p2 = 0', 'β = 1']
    """
    figure, (function, speed, bounds) = panels("f(x)", "f′(x)", "f′(x)")
    entries = []
    for (p1, p2), hue in zip(_SLOPES, HUES, strict=False):
        [line] = function.plot(_X, reference.acon_c(_X, p1, p2, 1.0), color=hue, linewidth=1.7)
        bounds.plot(_X, reference.acon_c_derivative(_X, p1, p2, 1.0), color=hue, linewidth=1.7)
        for bound in reference.acon_c_bounds(p1, p2):
            bounds.axhline(float(bound), color=hue, linewidth=0.9, linestyle=(0, (1, 2.5)))
        entries.append((line, f"p1 = {p1:g}, p2 = {p2:g}"))
    for beta, hue in zip(_BETAS, HUES[3:], strict=False):
        [line] = speed.plot(_X, reference.acon_c_derivative(_X, 1.0, 0.0, beta), color=hue, linewidth=1.7)
        entries.append((line, f"β = {beta:g}"))
    function.set_ylim(-1, 5)
    speed.sharey(bounds)
    for axes, title in ((function, "β = 1"), (speed, "p1 = 1, p2 = 0"), (bounds, "β = 1")):
        axes.set_title(title, loc="left", color=INK, fontsize=9)
    legend(figure, entries, "outside upper right", 6)
    return figure


def switching_curves(p1: float = 1.2, p2: float = -0.8, betas: Sequence[float] = (0.0, 0.1, 0.5, 2.0, 10.0)) -> Figure:
    """ACON-C from the mean (β = 0) to the maximum (β → ∞), which is dashed (the paper's figure of section 3).

    Args:
        p1: slope of η_a.
        p2: slope of η_b.
        betas: a line for each.

    Raises:
        SettingsError: no betas, more than there are colours, or a value that is not finite.

    >>> len(switching_curves(betas=(0, 1)).axes[0].get_lines())
    3
    """
    if not 0 < len(betas) <= len(HUES):
        raise SettingsError(f"betas holds {len(betas)} values: write one to {len(HUES)} numbers")
    if not all(math.isfinite(value) for value in (p1, p2, *betas)):
        raise SettingsError(f"p1={p1!r}, p2={p2!r}, betas={tuple(betas)!r}: only finite numbers can be drawn")
    figure, (axes,) = panels("f(x)")
    entries = []
    for beta, hue in zip(betas, HUES, strict=False):
        [line] = axes.plot(_X, reference.acon_c(_X, p1, p2, beta), color=hue, linewidth=1.7)
        entries.append((line, f"β = {beta:g}" + ", the mean" * (beta == 0)))
    [line] = axes.plot(_X, reference.maxout(_X, p1, p2), **dashed(color=INK))
    axes.set_title(f"p1 = {p1:g}, p2 = {p2:g}", loc="left", color=INK, fontsize=9)
    legend(figure, [*entries, (line, "the maximum")], "outside right upper")
    return figure


def maxout_pairs() -> Figure:
    """Each Maxout member, dashed, beside the ACON member that smooths it at β = 1 (paper, table 1).

    >>> [axes.get_title("left") for axes in maxout_pairs().axes]
    ['ReLU, ACON-A', 'PReLU, ACON-B', 'Maxout, ACON-C']
    """
    members = (("ReLU, ACON-A", 1.0, 0.0), ("PReLU, ACON-B", 1.0, 0.25), ("Maxout, ACON-C", 1.2, -0.4))
    figure, grid = panels("y", "", "")
    for axes, (title, p1, p2) in zip(grid, members, strict=True):
        axes.plot(_X, reference.acon_c(_X, p1, p2, 1.0), color=HUES[0], linewidth=1.7)
        axes.plot(_X, reference.maxout(_X, p1, p2), **dashed(color=INK))
        axes.set(ylim=(-2, 5))
        axes.set_title(title, loc="left", color=INK, fontsize=9)
    smooth = Line2D([], [], color=HUES[0], linewidth=1.7)
    sharp = Line2D([], [], **dashed(color=INK))
    legend(figure, [(sharp, "the maximum"), (smooth, "the smooth maximum, β = 1")], "outside upper right", 2)
    return figure
