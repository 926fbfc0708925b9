"""The drawings of the teaching page, made from `aconite.reference` whenever the site is built."""

from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from aconite.reference import acon_a, acon_b, acon_c, acon_c_bounds, acon_c_derivative, maxout

# Middle tones, so that one file serves both: a contrast above 3.7 against white and against the theme's dark page.
INK = "#7a828c"
HUES = ("#2f86cc", "#d5611d", "#a064c4", "#1f9571")

X = torch.linspace(-5, 5, 501, dtype=torch.float64)
DASHED = {"color": INK, "linewidth": 1.0, "linestyle": (0, (4, 2))}


def draw_all(folder: Path) -> None:
    """Write every figure as ``<folder>/<name>.svg``, the same bytes each time."""
    settings = {"svg.fonttype": "none", "svg.hashsalt": "aconite", "font.size": 9, "text.parse_math": False}
    for draw in (relu_and_swish, pairs, switching, derivatives):
        with matplotlib.rc_context(settings):
            path = folder / f"{draw.__name__.replace('_', '-')}.svg"
            draw().savefig(path, transparent=True, metadata={"Date": None})


def relu_and_swish() -> Figure:
    figure, (function, slope) = panels("f(x)", "f′(x)")
    function.plot(X, X.clamp_min(0), **DASHED, label="ReLU")
    slope.step(X, (X > 0).double(), where="mid", **DASHED)
    for beta, hue in zip((0.3, 1, 4), HUES, strict=False):
        function.plot(X, acon_a(X, beta), color=hue, label=f"Swish, β = {beta}")
        slope.plot(X, acon_c_derivative(X, 1, 0, beta), color=hue)
    return with_legend(figure)


def pairs() -> Figure:
    figure, axes = panels("ReLU → ACON-A", "PReLU → ACON-B", "max(p1·x, p2·x) → ACON-C")
    members = (
        (maxout(X, 1, 0), acon_a(X, 1)),
        (maxout(X, 1, 0.25), acon_b(X, 0.25, 1)),
        (maxout(X, 1.2, -0.4), acon_c(X, 1.2, -0.4, 1)),
    )
    for axis, (sharp, smooth) in zip(axes, members, strict=True):
        axis.plot(X, sharp, **DASHED, label="maximum")
        axis.plot(X, smooth, color=HUES[1], label="smooth maximum, β = 1")
        axis.set(ylim=(-2, 5), xticks=range(-4, 5, 2))
    return with_legend(figure)


def switching() -> Figure:
    figure, (axis,) = panels("S_β(1.2·x, −0.8·x)")
    axis.plot(X, maxout(X, 1.2, -0.8), **DASHED, label="β = ∞: the maximum")
    for beta, hue in zip((2, 0.5, 0.1, 0), HUES, strict=True):
        axis.plot(X, acon_c(X, 1.2, -0.8, beta), color=hue, label=f"β = {beta}" + ": the mean" * (beta == 0))
    return with_legend(figure)


def derivatives() -> Figure:
    figure, (speed, bounds) = panels("β: how fast (p1 = 1, p2 = 0)", "p1, p2: how far (β = 1)")
    for beta, hue in zip((2, 1, 0.1), HUES, strict=False):
        speed.plot(X, acon_c_derivative(X, 1, 0, beta), color=hue, label=f"β = {beta}")
    for (p1, p2), hue in zip(((1.2, -0.1), (1.0, 0.0), (0.8, 0.1)), HUES, strict=False):
        bounds.plot(X, acon_c_derivative(X, p1, p2, 1), color=hue, label=f"p1 = {p1}, p2 = {p2}")
        for bound in acon_c_bounds(torch.tensor(p1), torch.tensor(p2)):
            bounds.axhline(bound, color=hue, linewidth=0.8, linestyle=(0, (1, 3)))
    speed.sharey(bounds)
    for axis in (speed, bounds):
        axis.legend(loc="center right", bbox_to_anchor=(1, 0.32), frameon=False, labelcolor=INK, fontsize=8)
    return figure


def panels(*titles: str):
    """An empty figure with one panel for each title."""
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, color=INK, fontsize=10)
        axis.set_xlabel("x", color=INK)
        axis.tick_params(colors=INK)
        axis.grid(color=INK, alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(INK)
    return figure, axes


def with_legend(figure: Figure) -> Figure:
    """One legend below all panels, of the first panel's curves."""
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(lines), frameon=False, labelcolor=INK)
    return figure
