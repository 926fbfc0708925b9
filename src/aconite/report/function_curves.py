"""Any activation by name as a curve, with its derivative and the derivative's bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from aconite.errors import SettingsError
from aconite.nn import activation
from aconite.reference import acon_c_bounds
from aconite.report.canvas import dashed, legend, panels
from aconite.report.palette import GRID, HUES, INK, colour

__all__ = ["Curve", "curve", "function_curves"]

_VALUES = re.compile(r"(?P<name>.+):(?P<values>\s*\w+\s*=\s*[^=,]+(?:,\s*\w+\s*=\s*[^=,]+)*)")


class Curve(NamedTuple):
    """A function of one number: its values and slopes at ``x``, all float64 (points,).

    ``bounds``: the least and the greatest slope over all x, where a formula gives them.
    """

    x: Tensor
    y: Tensor
    slope: Tensor
    bounds: tuple[float, float] | None


def curve(name: str, reach: float = 5.0, points: int = 401) -> Curve:
    """An activation as a curve over −reach ≤ x ≤ reach.

    Args:
        name: whatever `aconite.nn.activation` takes, at the start of training with ``init="swish"``; behind a colon
            learnable values may be set, as in ``"acon-c:p1=1.2,p2=-0.8,beta=2"``.
        reach: half the width of the drawn range.
        points: how many.

    Raises:
        UnknownNameError: no such activation.
        SettingsError: a value that the activation does not have, or an activation that is no function of one number:
            it looks at neighbouring pixels or at the whole image.

    >>> found = curve("acon-c:p1=1.2,p2=-0.8", points=3)
    >>> found.slope, [round(bound, 4) for bound in found.bounds]
    (tensor([-0.8008,  0.2000,  1.2008], dtype=torch.float64), [-0.9997, 1.3997])
    """
    if not (reach > 0 and points >= 2):
        raise SettingsError(f"reach={reach!r}, points={points!r}: expected a positive range and at least two points")
    found = _VALUES.fullmatch(name.strip())
    plain = found["name"].strip() if found else name.strip()
    layer = activation(plain, 1, init="swish").double().eval()
    _set(layer, plain, found["values"] if found else "")
    x = torch.linspace(-reach, reach, points, dtype=torch.float64, requires_grad=True)
    y = layer(x[:, None, None, None]).flatten()  # as many images of one pixel
    with torch.no_grad():
        together = layer(x[None, None, :, None]).flatten()  # one image of as many pixels
    if y.shape != x.shape or not torch.allclose(y, together, rtol=1e-9, atol=1e-9, equal_nan=True):
        raise SettingsError(
            f"{plain!r} has no curve: its result at a pixel depends on other pixels; plot acon-c or meta-acon-pixel, "
            "or look at a trained layer with `aconite inspect`"
        )
    [slope] = torch.autograd.grad(y.sum(), x)
    return Curve(x.detach(), y.detach(), slope, _bounds(layer))


def _set(layer: nn.Module, name: str, values: str) -> None:
    learnt = dict(layer.named_parameters())
    for pair in filter(None, values.split(",")):
        key, _, text = (part.strip() for part in pair.partition("="))
        if key not in learnt:
            has = f"has {', '.join(learnt)}" if learnt else "learns nothing"
            raise SettingsError(f"{name!r} has no learnable value {key!r}: it {has}")
        try:
            value = float(text)
        except ValueError:
            raise SettingsError(f"{name}: {key}={text!r} is no number; write {key}=1.5") from None
        learnt[key].data.fill_(value)


def _bounds(layer: nn.Module) -> tuple[float, float] | None:
    """Of the ACON family with a sigmoid and β other than 0, whose values stand in the layer."""
    values = {name: float(value.detach()) for name, value in layer.named_parameters() if value.numel() == 1}
    if getattr(layer, "gate", None) != "sigmoid" or not values.get("beta"):
        return None
    p1, p2 = (torch.tensor(values.get(name, at), dtype=torch.float64) for name, at in (("p1", 1.0), ("p2", 0.0)))
    least, greatest = acon_c_bounds(p1, p2)
    return float(least), float(greatest)


def function_curves(names: Sequence[str], reach: float = 5.0) -> Figure:
    """Activations by name: their functions on the left, their derivatives on the right.

    The bounds of an ACON's derivative are dotted (paper, section 3). The function's panel is as high as it is wide,
    so that slopes look as they are; what is higher leaves the frame.

    Args:
        names: as `curve` takes them.
        reach: half the width of the drawn range.

    Raises:
        SettingsError: no names, or one that has no curve.

    >>> figure = function_curves(["relu", "acon-c:p1=1.2,p2=-0.8"])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['f(x)', 'f′(x)']
    """
    if not names:
        raise SettingsError("there is nothing to draw: name at least one activation, such as acon-c")
    found = {name: curve(name, reach) for name in dict.fromkeys(names)}
    figure, (function, derivative) = panels("f(x)", "f′(x)")
    function.axline((0, 0), slope=1, color=GRID, linewidth=0.9, zorder=0)
    entries = []
    for name, hue in zip(found, _told_apart(list(found)), strict=True):
        one = found[name]
        look = dashed(color=hue) if name == "relu" else {"color": hue, "linewidth": 1.7}
        [line] = function.plot(one.x, one.y, **look)
        derivative.plot(one.x, one.slope, **look)
        for bound in one.bounds or ():
            derivative.axhline(bound, color=hue, linewidth=0.9, linestyle=(0, (1, 2.5)))
        entries.append((line, name))
    function.set(xlim=(-reach, reach), ylim=(-reach, reach))
    derivative.set_xlim(-reach, reach)
    legend(figure, entries, "outside right upper")
    return figure


def _told_apart(names: list[str]) -> list[str]:
    """Each name's own colour; where two share one, the later gets the first hue that is free, while there are such."""
    given: list[str] = []
    for name in names:
        own = INK if name == "relu" else colour(name)
        free = [hue for hue in HUES if hue not in given]
        given.append(own if own not in given or not free else free[0])
    return given
