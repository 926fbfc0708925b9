"""One look per activation, the same in every figure, and the dark counterpart of every colour.

The hues are those of Okabe and Ito's colour-blind-safe set, darkened until each has a contrast of 3 against
white. Seven hues cannot tell 24 names apart, so names of one hue differ by marker; the five
names compared by default have a hue each.
"""

from __future__ import annotations

import re
import zlib

__all__ = ["GRID", "HUES", "INK", "ON_DARK", "colour", "marker"]

INK = "#1b1f24"
"""Text, axes and ReLU, the line that the others are measured by."""
GRID = "#d8dde3"
HUES = ("#d55e00", "#0072b2", "#009e73", "#7b2d8b", "#947100", "#d0679f")
"""For lines that are not activations, such as three values of β; in this order."""

ON_DARK = {
    INK: "#e6e9ee",
    GRID: "#343a43",
    "#0072b2": "#3d9be0",
    "#d55e00": "#f0773b",
    "#7b2d8b": "#a566c9",
    "#009e73": "#2cc295",
    "#d0679f": "#f29cc8",
    "#947100": "#d6b84a",
    "#000000": "#e6e9ee",  # matplotlib's own black and white, so that any figure can be read on a dark page
    "#ffffff": "#15181c",
}
"""What each colour becomes on a dark page."""

_MARKERS = "os^Dv"
_BY_HUE = {
    INK: ("relu", "identity", "relu6", "leaky-relu"),
    "#0072b2": ("silu", "swish", "gelu", "hardswish", "acon-a"),
    "#d55e00": ("acon-c", "maxout", "acon-frelu"),
    "#7b2d8b": ("meta-acon", "meta-acon-layer", "meta-acon-pixel"),
    "#009e73": ("se-relu", "mish", "prelu", "frelu"),
    "#d0679f": ("elu", "tanh", "sigmoid"),
    "#947100": ("acon-b", "softplus"),
}
_LOOK = {name: (hue, mark) for hue, names in _BY_HUE.items() for name, mark in zip(names, _MARKERS, strict=False)}
_KNOWN = re.compile(f"(?:{'|'.join(sorted(_LOOK, key=len, reverse=True))})(?![a-z0-9-])")


def _look(name: str) -> tuple[str, str]:
    plain = name.strip().lower().replace("_", "-")
    if found := _KNOWN.match(plain):
        return _LOOK[found[0]]
    number = zlib.crc32(plain.encode("utf-8", "replace"))  # hash() differs from one Python process to the next
    hues = tuple(_BY_HUE)[1:]
    return hues[number % len(hues)], _MARKERS[number // len(hues) % len(_MARKERS)]


def colour(name: str) -> str:
    """The colour of an activation, as ``#rrggbb``: a function of the name alone, the same on every machine.

    A label that begins with a known name takes that name's colour; any other name gets one that depends on
    its letters.

    >>> colour("acon-c") == colour("acon_c") == colour("ACON-C, all images")
    True
    >>> len({colour(name) for name in ("relu", "silu", "acon-c", "meta-acon", "se-relu")})
    5
    """
    return _look(name)[0]


def marker(name: str) -> str:
    """matplotlib's marker of an activation: tells apart the names that share a hue, and lines in grey print."""
    return _look(name)[1]
