"""The paper's figures, drawn from a run: training curves, learnt activation curves, the distribution of β."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from aconite.errors import SettingsError, ShapeError
from aconite.report.canvas import Array, dashed, folded, legend, numbers, sheet, style
from aconite.report.channels import LayerParameters, channel_curves, channel_entry, draw_channels
from aconite.report.palette import INK, colour, marker

__all__ = ["activation_curves", "beta_histograms", "training_curves"]


def training_curves(
    train: Mapping[str, Sequence[Sequence[float]]], test: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Train and test error over the epochs, as in the paper's figure: test solid, train thin and dashed.

    Each line is the mean over the seeds; the band around a test line reaches from the smallest to the largest
    seed (no band when there is one seed). The first fifth of the epochs may leave the frame at the top, so
    that the end can be read. The legend lists the activations by their last test error, worst on top, as the
    lines lie.

    Args:
        train: activation name -> one sequence per seed of the error in % after each epoch.
        test: the same for the test set; the same names.

    Raises:
        SettingsError: nothing to draw, names that differ between train and test, a value that is not finite.
        ShapeError: seeds of one activation with different numbers of epochs.

    >>> figure = training_curves({"relu": [[30.0, 9.0]]}, {"relu": [[35.0, 12.0]]})
    >>> figure.axes[0].get_xlabel(), len(figure.axes[0].get_lines())
    ('epoch', 2)
    """
    if not test:
        raise SettingsError("there are no training curves to draw; pass at least one activation")
    if odd := sorted(set(train) ^ set(test)):
        raise SettingsError(f"train and test must hold the same activations; only one of them holds {', '.join(odd)}")
    trained = {name: _runs(seeds, f"train error of {name}") for name, seeds in train.items()}
    tested = {name: _runs(seeds, f"test error of {name}") for name, seeds in test.items()}

    figure = sheet(4.2)
    axes = figure.add_subplot()
    style(axes)
    entries = []
    for name in sorted(tested, key=lambda name: -tested[name][:, -1].mean()):
        hue, runs = colour(name), tested[name]
        every = max(1, runs.shape[1] // 8)
        look: dict[str, Any] = {"color": hue, "linewidth": 1.7, "label": f"{name}, test"}
        look |= {"marker": marker(name), "markersize": 4.5, "markevery": (every - 1, every)}
        [line] = axes.plot(_epochs(runs), runs.mean(0), **look)
        axes.plot(_epochs(trained[name]), trained[name].mean(0), **dashed(color=hue, label=f"{name}, train"))
        if len(runs) > 1:
            axes.fill_between(_epochs(runs), runs.min(0), runs.max(0), color=hue, alpha=0.16, linewidth=0)
        entries.append((line, name))
    late = [runs[:, runs.shape[1] // 5 :].max() for runs in (*tested.values(), *trained.values())]
    axes.set(xlabel="epoch", ylabel="error in %", ylim=(0, max(*late, 1e-3) * 1.04))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_explained(tested), loc="left", color=INK, fontsize=9)
    entries += [
        (Line2D([], [], color=INK, linewidth=1.7), "test"),
        (Line2D([], [], **dashed(color=INK)), "train"),
    ]
    legend(figure, entries, "outside right upper")
    return figure


def _runs(seeds: Sequence[Sequence[float]], what: str) -> Array:
    """(seeds, epochs)."""
    if len(seeds) == 0:
        raise SettingsError(f"{what}: no seeds; pass one sequence of numbers per seed")
    rows = [numbers(run, f"{what}, seed {number}") for number, run in enumerate(seeds)]
    if len(lengths := sorted({row.size for row in rows})) > 1:
        raise ShapeError(f"{what}: the seeds have {lengths} epochs; pass the same number for each")
    return np.stack(rows)


def _epochs(runs: Array) -> Array:
    return np.arange(1.0, runs.shape[1] + 1)


def _explained(tested: Mapping[str, Array]) -> str:
    counts = sorted({len(runs) for runs in tested.values()})
    if counts == [1]:
        return "one seed"
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean of {number} seeds; band: smallest to largest test error"


def activation_curves(layers: Mapping[str, LayerParameters]) -> Figure:
    """The functions that a network's channels have learnt, one panel per layer, with ReLU as a thin dashed
    line.

    Every channel's y(x) = (p1 - p2)·x·σ(β(p1 - p2)·x) + p2·x is drawn for -4 ≤ x ≤ 4 (paper, section 3),
    translucent, so that dark means many; beyond 64 channels as bands, the palest of which holds all channels and the
    darkest the middle tenth. All panels share their axes; the steepest hundredth of the curves
    may leave the frame.

    Args:
        layers: the panel's title -> the layer's parameters, three sequences of one length.

    Raises:
        SettingsError: nothing to draw, or a parameter that is not finite; the message names it.
        ShapeError: p1, p2 and beta of different lengths.

    >>> figure = activation_curves({"stage 2": LayerParameters([1.0, 0.8], [0.0, -0.1], [1.0, 1.5])})
    >>> figure.axes[0].get_title()
    'stage 2 (2 channels)'
    """
    if not layers:
        raise SettingsError("there are no activation curves to draw; pass at least one layer")
    curves = {title: channel_curves(title, layer) for title, layer in layers.items()}
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = sheet(0.5 + 2.3 * rows if columns > 1 else 3.6)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    low, high = np.quantile(np.concatenate([lines[:, [0, -1], 1].ravel() for lines in curves.values()]), [0.005, 0.995])
    for axes, (title, lines) in zip(grid.flat, curves.items(), strict=False):
        style(axes)
        draw_channels(axes, lines)
        axes.plot([-4, 0, 4], [0, 0, 4], **dashed(color=INK, label="relu"))
        axes.set(xlim=(-4, 4), ylim=(min(low, -1.0) * 1.05, max(high, 4.0) * 1.05))
        plural = "s" if len(lines) > 1 else ""
        axes.set_title(folded(f"{title} ({len(lines)} channel{plural})"), color=INK, fontsize=9, parse_math=False)
    for axes in grid.flat[len(curves) :]:
        axes.remove()
    for axes in grid.flat[max(0, len(curves) - columns) : len(curves)]:  # the lowest panel of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("x")
    for axes in grid[:, 0]:
        axes.set_ylabel("y(x)")
    entries = [channel_entry(list(curves.values())), (Line2D([], [], **dashed(color=INK)), "relu")]
    legend(figure, entries, "outside upper right", 2)
    return figure


def beta_histograms(series: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """How β is distributed, one row per series: ACON-C has one for all images, Meta-ACON one for each image.

    A row's height shows the share of values per bin, scaled to the row's largest bin; the bins are the same
    in all rows. Beside each row stand its median (or that all values are the same) and the number of values.

    Args:
        series: label -> the values of β; a label that begins with an activation's name gets that one's colour.
        title: stands above the figure.

    Raises:
        SettingsError: nothing to draw, an empty series, a value that is not finite.

    >>> figure = beta_histograms({"acon-c, all images": [1.0, 1.0], "meta-acon, image 1": [0.2, 0.7]})
    >>> [axes.texts[0].get_text() for axes in figure.axes]
    ['all 1', 'median 0.45']
    """
    if not series:
        raise SettingsError("there are no histograms to draw; pass at least one series of values")
    arrays = {label: numbers(values, f"beta of {label}") for label, values in series.items()}
    edges = _bins(np.concatenate(list(arrays.values())))
    figure = sheet(0.9 + 0.62 * len(arrays))
    rows = figure.subplots(len(arrays), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, values) in zip(rows, arrays.items(), strict=True):
        style(axes, grid="x")
        counts = np.histogram(values, edges)[0]
        axes.stairs(counts / counts.max(), edges, fill=True, color=colour(label), alpha=0.35)
        axes.stairs(counts / counts.max(), edges, color=colour(label), linewidth=1.2)
        axes.set(ylim=(0, 1.15), xlim=(edges[0], edges[-1]), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.tick_params(bottom=axes is rows[-1])
        axes.set_ylabel(folded(label), rotation=0, ha="right", va="center", fontsize=9, parse_math=False)
        same = values.min() == values.max()
        beside = f"{'all' if same else 'median'} {np.median(values):.3g}", f"n = {values.size:,}"
        for text, height in zip(beside, (0.62, 0.28), strict=True):
            axes.text(1.02, height, text, transform=axes.transAxes, color=INK, fontsize=8, va="center")
    rows[-1].set_xlabel("β")
    if title:
        figure.suptitle(folded(title, 80), color=INK, fontsize=10, parse_math=False)
    return figure


def _bins(values: Array) -> Array:
    """An odd number, 21 to 61, of equal bins. (Nearly) equal values get a span around them: they fall into the middle
    bin, where rounding would close bins between them.
    """
    low, high = float(values.min()), float(values.max())
    least = 1e-3 * max(1.0, abs(low), abs(high))
    if high - low < least:
        low, high = low - 50 * least, high + 50 * least
    return np.linspace(low, high, (int(np.clip(2 * math.sqrt(values.size), 20, 60)) | 1) + 1)
