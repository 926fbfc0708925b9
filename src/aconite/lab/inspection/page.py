"""An inspection as tables in the terminal and as a report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aconite.inspection import ACTIVATED, FLAT, LINEAR, LayerStatistics
from aconite.lab.inspection.run import Inspection
from aconite.lab.table import Columns, print_columns
from aconite.report import LayerParameters, Page, activation_curves, beta_histograms, layer_spread, state_bars

__all__ = ["inspection_page", "print_inspection"]

_Layers = Mapping[str, LayerStatistics]


def print_inspection(found: Inspection) -> None:
    """Prints what was done, and the tables."""
    print(_subtitle(found))
    print_columns(_health(found.layers))
    if shapes := _shapes(found.layers, spread=False):
        print_columns(shapes)


def inspection_page(found: Inspection) -> Page:
    """The report: the tables, a figure of each kind, and the learnt functions."""
    page = Page(f"What the activations of {found.name} do", subtitle=_subtitle(found))
    page.text(_verdict(found.layers), heading="In short")
    heads, rows, note = _health(found.layers)
    page.table(heads, rows, caption="The activation layers, in the order in which they run.", note=note)
    page.figure(
        layer_spread(_columns(found.layers), log=("gradient",)),
        alt="Dead units, saturation, offset, non-linearity and gradient of each activation layer.",
        caption="Layer by layer: the mean over the channels, and a line from their 5th to their 95th percentile. Dead "
        "units are counted, so they have a mean alone.",
    )
    _add_shapes(page, found)
    page.text(
        "; ".join(f"{name}: {value}" for name, value in found.provenance.items() if value is not None) + ".",
        heading="Made with",
    )
    return page


def _subtitle(found: Inspection) -> str:
    return (
        f"{found.images:,} images of {found.data}; error {found.error:.2f} %, {found.parameters:,} parameters, "
        f"{len(found.layers)} activation layers"
    )


def _verdict(layers: _Layers) -> str:
    """The seed questions, answered: do units die, is it centred, is it linear."""
    dead = sum(int(layer.dead.sum()) for layer in layers.values())
    channels = sum(layer.channels for layer in layers.values())
    worst = max(layers, key=lambda name: layers[name].dead_share)
    said = [f"{dead} of {channels:,} channels are dead" + (f", most of them in {worst}" if dead else "")]
    offsets = [layer.offset for layer in layers.values()]
    said.append(f"the offset from zero is {min(offsets):.2f} to {max(offsets):.2f} (0 is centred, 1 constant)")
    bent = [_alive_mean(layer.nonlinearity, layer.dead) for layer in layers.values()]
    known = [value for value in bent if value is not None]
    if known:
        said.append(
            f"the layers' non-linearity is {min(known):.3f} to {max(known):.3f} (0 is a straight line, ReLU on normal "
            "inputs 0.27)"
        )
    return f"{'; '.join(said)}."


def _health(layers: _Layers) -> Columns:
    several = len({layer.kind for layer in layers.values()}) > 1
    heads = ["layer", "channels", "dead %", "saturated %", "mean", "offset", "non-linearity", "gradient"]
    rows: list[list[str | float | None]] = [
        [
            f"{name}, {layer.kind}" if several else name,
            layer.channels,
            f"{100 * layer.dead_share:.1f}",
            None if layer.saturation is None else f"{100 * float(layer.saturation.mean()):.1f}",
            f"{float(layer.mean.mean()):.3f}",
            f"{layer.offset:.3f}",
            None if (bent := _alive_mean(layer.nonlinearity, layer.dead)) is None else f"{bent:.3f}",
            None if layer.gradient is None else f"{float(layer.gradient.square().mean().sqrt()):.1e}",
        ]
        for name, layer in layers.items()
    ]
    note = (
        "Dead: channels whose output never moves over all the data. Saturated: values where the function's slope is "
        f"below {FLAT}. Offset: |mean| / root mean square of the output, 0 is zero-centred. Non-linearity: 1 − R² of "
        "the best straight line through input and output, channel by channel. Offset and non-linearity leave dead "
        "channels out. Gradient: root mean square, of each image's own loss by the layer's output."
    )
    return heads, rows, note


def _shapes(layers: _Layers, spread: bool = True) -> Columns | None:
    heads = ["layer", "p1", "p2", "β", "linear %", "activated %"]
    rows: list[list[str | float | None]] = []
    for name, layer in layers.items():
        if layer.parameters is not None and layer.states is not None:
            spreads = [None if value is None else _spread(value, spread) for value in layer.parameters]
            rows.append([name, *spreads, *(f"{100 * layer.states[state]:.1f}" for state in ("linear", "activated"))])
    if not rows:
        return None
    note = (
        f"p1, p2, β: the median over the channels{', with the 5th and 95th percentile' * spread}; a generated β is "
        "averaged over the data first. States: z = β(p1 − p2)x, the gate's argument, has a root mean square below "
        f"{LINEAR} (linear: the mean), above {ACTIVATED} (activated: the maximum); the "
        "others, between, are switching."
    )
    return heads, rows, note


def _columns(layers: _Layers) -> dict[str, dict[str, list[float]]]:
    columns: dict[str, dict[str, list[float]]] = {
        name: {} for name in ("dead", "saturated", "offset", "non-linearity", "gradient")
    }
    for name, layer in layers.items():
        alive = ~layer.dead
        columns["dead"][name] = [layer.dead_share]
        if layer.saturation is not None:
            columns["saturated"][name] = layer.saturation.tolist()
        size = (layer.mean.square() + layer.std.square()).sqrt()
        for title, values in (("offset", layer.mean.abs() / size), ("non-linearity", layer.nonlinearity)):
            if values is not None and bool(alive.any()):
                columns[title][name] = values[alive].tolist()
        if layer.gradient is not None:
            columns["gradient"][name] = layer.gradient.tolist()
    return {title: rows for title, rows in columns.items() if rows}


def _add_shapes(page: Page, found: Inspection) -> None:
    shapes = _shapes(found.layers)
    if shapes is None:
        return
    page.text("Which functions the channels have learnt, and whether their gates move.", heading="What was learnt")
    page.table(shapes[0], shapes[1], caption="p1, p2, β, and the state of the channels.", note=shapes[2])
    states = {name: layer.states for name, layer in found.layers.items() if layer.states is not None}
    page.figure(
        state_bars(states),
        alt="Shares of linear, switching and activated channels in each layer.",
        caption="How many channels are linear, switching and activated.",
    )
    values = [(name, layer.parameters) for name, layer in found.layers.items() if layer.parameters is not None]
    curves = {
        name: LayerParameters(p1.tolist(), p2.tolist(), beta.tolist())
        for name, (p1, p2, beta) in (values[at] for at in sorted({0, len(values) // 2, len(values) - 1}))
        if beta is not None
    }
    page.figure(
        activation_curves(curves),
        alt=f"Spread of the channels' functions in {', '.join(curves)}.",
        caption="The functions of the first, a middle and the last layer: the darker, the more channels. A generated β "
        "is averaged over the data.",
    )
    last = list(states)[-1]
    betas = found.layers[last].image_betas
    series: dict[str, Sequence[float]]
    if betas is not None:
        series = {label: values.tolist() for label, values in zip(found.labels, betas, strict=False)}
        told = "generated anew for each image"
    else:
        series, told = {"all images": curves[last].beta}, "the same for every image"
    page.figure(
        beta_histograms(series, title=last),
        alt=f"Distribution of β in {last}.",
        caption=f"β over the channels of the last layer, {told}.",
    )


def _alive_mean(values: Tensor | None, dead: Tensor) -> float | None:
    if values is None:
        return None
    return float(values[~dead].mean()) if bool((~dead).any()) else 0.0


def _spread(values: Tensor, whole: bool) -> str:
    marks = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)).tolist()
    low, middle, high = (f"{round(mark, 2) + 0.0:.2f}" for mark in marks)  # + 0.0: no -0.00
    return f"{middle} ({low}…{high})" if whole else middle
