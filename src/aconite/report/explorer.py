"""The explorer: one HTML page that draws the smooth maximum of two functions while its sliders are moved."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import jinja2

from aconite.errors import DataError
from aconite.report.page import _asset
from aconite.whole_file import write_whole

__all__ = ["explorer_page", "write_explorer"]


def explorer_page() -> str:
    r"""The explorer as HTML, in a single file that needs no network.

    Sliders set p1, p2 and β, lists choose η_a and η_b; the page shows

    .. math:: S_\beta(\eta_a, \eta_b) = (\eta_a - \eta_b)\,\sigma(\beta(\eta_a - \eta_b)) + \eta_b

    with its derivative, the derivative's bounds, the maximum that it smooths, the largest distance to it, and the
    line of Python that computes it (paper, section 3). What is set stands in the page's address, so that a link keeps
    it: ``explorer.html#a=p&b=p&p1=1.2&p2=-0.8&beta=2``.

    >>> explorer_page().startswith("<!doctype html>")
    True
    """
    script = _asset("page.js") + _asset("explorer.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        _asset("explorer.html")
    )
    return template.render(style=_asset("page.css") + _asset("explorer.css"), script=script, digest=digest)


def write_explorer(path: str | os.PathLike[str]) -> None:
    """Write the explorer to a file, whole or not at all; its folder is made where it is missing.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        write_whole(Path(path), explorer_page().encode())
    except OSError as error:
        raise DataError(f"cannot write the explorer {path}: {error.strerror or error}") from error
