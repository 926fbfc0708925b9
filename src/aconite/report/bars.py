"""Bars of the gain over ReLU, as in the paper's figure 1, with what was measured beside what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aconite.errors import SettingsError
from aconite.report.canvas import folded, numbers, sheet, style
from aconite.report.palette import INK, colour

__all__ = ["gain_bars"]

Published = Mapping[str, Mapping[str, float]]
Measured = Mapping[str, Mapping[str, Sequence[float]]]


def gain_bars(published: Published, measured: Measured | None = None) -> Figure:
    """Gain over ReLU in points, a group of bars for each network, a colour for each activation.

    Published bars are pale, those measured stand beside them in full colour: the mean over the seeds, with a line
    from the smallest to the largest (none where there is one seed). Where nothing was measured there is no bar.

    Args:
        published: network -> activation -> the published gain.
        measured: network -> activation -> the gain of each seed; a network or activation may be missing.

    Raises:
        SettingsError: nothing to draw, a value that is not finite, or something measured that was not published.

    >>> figure = gain_bars({"resnet50": {"swish": 0.5, "meta-acon": 2.0}}, {"resnet50": {"swish": [0.1, 0.3]}})
    >>> [round(float(bar.get_height()), 2) for bar in figure.axes[0].patches]
    [0.5, 0.2, 2.0]
    """
    if not any(published.values()):
        raise SettingsError("there are no gains to draw; pass at least one network with one activation")
    measured = measured or {}
    for network, found in measured.items():
        if odd := sorted(found.keys() - published.get(network, {}).keys()):
            raise SettingsError(f"{network}: {', '.join(odd)} was measured but has no published gain to stand beside")
    names = list(dict.fromkeys(name for gains in published.values() for name in gains))
    figure = sheet(3.4)
    axes = figure.add_subplot()
    style(axes, grid="y")
    beside = 2 if measured else 1
    width = 0.84 / (beside * len(names))
    for group, (network, gains) in enumerate(published.items()):
        for place, name in enumerate(names):
            if name not in gains:
                continue
            left = group - 0.42 + beside * place * width
            [height] = numbers([gains[name]], f"published gain of {name} in {network}")
            axes.bar(left, height, 0.94 * width, align="edge", color=colour(name), alpha=0.3)
            if name not in measured.get(network, {}):
                continue
            seeds = numbers(measured[network][name], f"measured gain of {name} in {network}")
            axes.bar(left + width, seeds.mean(), 0.94 * width, align="edge", color=colour(name))
            if seeds.size > 1:
                axes.vlines(left + 1.47 * width, seeds.min(), seeds.max(), color=INK, linewidth=1.2)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(np.arange(len(published)), [folded(network, 20) for network in published], parse_math=False)
    axes.set_ylabel("gain over ReLU in points")
    _legend(figure, names, bool(measured))
    return figure


def _legend(figure: Figure, names: Sequence[str], measured: bool) -> None:
    patches = [Patch(color=colour(name), label=folded(name)) for name in names]
    patches.append(Patch(color=INK, alpha=0.3, label="pale: published"))
    if measured:
        patches.append(Patch(color=INK, label="full: measured here"))
    box = figure.legend(
        handles=patches, loc="outside upper right", ncols=len(patches), frameon=False, fontsize=9, labelcolor=INK
    )
    for text in box.get_texts():
        text.set_parse_math(False)
