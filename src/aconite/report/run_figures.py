"""What comparisons of any kind say: errors from network to network, and a metric from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aconite.errors import SettingsError
from aconite.report.canvas import folded, legend, numbers, sheet, style
from aconite.report.palette import colour, marker

__all__ = ["metric_curves", "network_errors"]


def network_errors(errors: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """The test error of each activation from network to network: lines join the means, dots are the seeds.

    With networks of one kind that differ in depth it answers why a network needs a non-linear activation: layers
    without one are together one linear map, so depth does not help ``identity``.

    Args:
        errors: network -> activation -> the error in % of each seed; an activation may be missing from a network.

    Raises:
        SettingsError: nothing to draw, or a value that is not finite.

    >>> figure = network_errors({"resnet8": {"relu": [2.0, 3.0]}, "resnet14": {"relu": [1.5, 2.0]}})
    >>> figure.axes[0].get_lines()[0].get_ydata()
    array([2.5 , 1.75])
    """
    names = list(dict.fromkeys(name for of_network in errors.values() for name in of_network))
    if not names:
        raise SettingsError("there are no errors to draw; pass at least one network with one activation")
    figure = sheet(3.8)
    axes = figure.add_subplot()
    style(axes, grid="y")
    entries = []
    for at, name in enumerate(names):
        aside = 0.06 * (at - (len(names) - 1) / 2)
        seeds = {
            place + aside: numbers(of_network[name], f"error of {name} in {network}")
            for place, (network, of_network) in enumerate(errors.items())
            if name in of_network
        }
        look: dict[str, Any] = {"color": colour(name), "marker": marker(name), "markersize": 5.5, "linewidth": 1.7}
        [line] = axes.plot(list(seeds), [runs.mean() for runs in seeds.values()], **look)
        for place, runs in seeds.items():
            axes.plot([place] * runs.size, runs, ".", color=colour(name), markersize=5, alpha=0.45)
        entries.append((line, name))
    axes.set(ylabel="test error in %", ylim=(0, None), xlim=(-0.4, len(errors) - 0.6))
    axes.set_xticks(range(len(errors)), [folded(network, 14) for network in errors])
    legend(figure, entries, "outside right upper")
    return figure


def metric_curves(runs: Mapping[str, Sequence[Sequence[float | None]]], label: str) -> Figure:
    """A metric over the epochs: the mean over the seeds that have a value, and a band from the smallest to the largest.

    Args:
        runs: activation -> one sequence per seed of the value after each epoch. An epoch without a value (None) is
            left out, and a seed may end before the others.
        label: of the axis.

    Raises:
        SettingsError: nothing to draw.

    >>> figure = metric_curves({"relu": [[None, 0.5, 0.7], [None, 0.6]]}, "mIoU")
    >>> figure.axes[0].get_lines()[0].get_xydata().tolist()
    [[2.0, 0.55], [3.0, 0.7]]
    """
    figure = sheet(3.8)
    axes = figure.add_subplot()
    style(axes)
    entries = []
    for name, seeds in runs.items():
        longest = max(map(len, seeds), default=0)
        values = np.full((len(seeds), longest), np.nan)
        for seed, of_seed in enumerate(seeds):
            values[seed, : len(of_seed)] = [np.nan if value is None else value for value in of_seed]
        there = np.flatnonzero(np.isfinite(values).any(0)) if longest else np.empty(0, int)
        if there.size:
            epochs, kept = there + 1.0, values[:, there]
            look: dict[str, Any] = {"color": colour(name), "linewidth": 1.7, "markevery": max(1, there.size // 8)}
            look |= {"marker": marker(name), "markersize": 4}
            [line] = axes.plot(epochs, np.nanmean(kept, 0), **look)
            axes.fill_between(epochs, np.nanmin(kept, 0), np.nanmax(kept, 0), color=colour(name), alpha=0.16, lw=0)
            entries.append((line, name))
    if not entries:
        raise SettingsError(f"there is no {label} to draw; pass at least one run with a value")
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, entries, "outside right upper")
    return figure
