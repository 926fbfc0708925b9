"""A figure as a file, its kind told by the name's ending."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from aconite.errors import DataError, SettingsError
from aconite.whole_file import write_whole

__all__ = ["check_figure_name", "write_figure"]

# without the time of writing, so that the same figure is the same file
_KINDS: dict[str, dict[str, object]] = {
    ".png": {"dpi": 200},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}


def check_figure_name(path: str | os.PathLike[str]) -> Path:
    """The path, if a figure can be written under its ending; for asking before the work that the figure shows.

    Raises:
        SettingsError: another ending.
    """
    path = Path(path)
    if path.suffix.lower() not in _KINDS:
        raise SettingsError(f"{path}: a figure is written as {', '.join(_KINDS)}; end the name with one of them")
    return path


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as .png, .svg or .pdf, whole or not at all; its folder is made where it is missing.

    The same figure gives the same bytes.

    Raises:
        SettingsError: another ending.
        DataError: the file cannot be written.
    """
    path = check_figure_name(path)
    options = _KINDS[path.suffix.lower()]
    content = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "aconite", "svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(content, format=path.suffix[1:].lower(), **options)  # type: ignore[arg-type]
    try:
        write_whole(path, content.getbuffer())
    except OSError as error:
        raise DataError(f"cannot write the figure {path}: {error.strerror or error}") from error
