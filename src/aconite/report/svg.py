"""A figure as SVG for the inside of an HTML page: small, with ids that do not clash, legible on light and on dark."""

from __future__ import annotations

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from aconite.report.palette import ON_DARK

__all__ = ["inline_svg"]

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_COLOUR = re.compile("|".join(ON_DARK))
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DIGITS = re.compile(r"(\.\d\d)\d+")


def inline_svg(figure: Figure, *, prefix: str, alt: str) -> str:
    """The figure as an ``<svg role="img">`` element without namespaces, metadata or style sheet.

    Text stays text. Each colour of `palette.ON_DARK` becomes ``light-dark(…)``, which follows the page's
    ``color-scheme``. Only ids that are referred to stay, with ``prefix`` before them, so that figures with
    different prefixes can share a page. The same figure gives the same string on each run: it holds no date
    and no random id.
    """
    buffer = io.StringIO()
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "aconite", "svg.image_inline": True}),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser's fonts draw the text, not matplotlib's
        figure.savefig(buffer, format="svg", transparent=True)
    root = ElementTree.fromstring(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", buffer.getvalue()))
    used = set(_REFERENCE.findall(buffer.getvalue()))
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(name): value for name, value in element.attrib.items()}
        used.add(element.get("href", "").removeprefix("#"))
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):
                element.remove(child)
    for element in root.iter():
        element.attrib = {
            name: _rewrite(name, value, prefix)
            for name, value in element.attrib.items()
            if name != "id" or value in used
        }
    width = root.attrib.pop("width").removesuffix("pt")
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": f"{float(width) * 4 / 3:.0f}",
        "role": "img",
        "aria-label": alt,
    }
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """Inside HTML the parser knows SVG by its tags; ``href`` needs no xlink since SVG 2."""
    return name.rpartition("}")[2]


def _rewrite(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == "href":
        return value.replace("#", f"#{prefix}", 1) if value.startswith("#") else value
    if name == "d":
        return _DIGITS.sub(r"\1", value)  # a hundredth of a point cannot be seen, and is a quarter of the file
    value = _REFERENCE.sub(rf"url(#{prefix}\1)", value)
    if name == "style":
        value = _COLOUR.sub(lambda found: f"light-dark({found[0]}, {ON_DARK[found[0]]})", value)
    return value
