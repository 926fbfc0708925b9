"""One HTML page with text, tables and figures in a single file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from aconite.errors import DataError, SettingsError
from aconite.report.cells import Cell, ShownColumn, show
from aconite.report.svg import inline_svg
from aconite.whole_file import write_whole

__all__ = ["Page"]


@dataclass(frozen=True)
class _Text:
    kind: ClassVar[str] = "text"
    heading: str | None
    paragraph: str


@dataclass(frozen=True)
class _Table:
    kind: ClassVar[str] = "table"
    number: int
    columns: tuple[ShownColumn, ...]
    rows: int
    caption: str
    note: str


@dataclass(frozen=True)
class _Figure:
    kind: ClassVar[str] = "figure"
    number: int
    svg: Markup
    caption: str


class Page:
    """A report: what is added stands in that order, tables and figures are numbered.

    The page follows the reader's light or dark setting, prints on white, and its tables sort by a click on a
    column's head. Style, script and figures are inside the file, and its content policy forbids the browser
    to load anything. Text is shown as it is given: markup in it has no effect.

    >>> page = Page("Which activation?")
    >>> page.text("Three seeds each; lower is better.", heading="Result")
    >>> page.table(["activation", "test error %"], [["relu", 3.25], ["acon-c", None]], caption="30 epochs.")
    >>> "<h2>Result</h2>" in page.render()
    True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._blocks: list[_Text | _Table | _Figure] = []

    def text(self, paragraph: str, heading: str | None = None) -> None:
        """Add a paragraph of plain text, under a heading if one is given."""
        self._blocks.append(_Text(heading, paragraph))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "", note: str = "") -> None:
        """Add a table.

        Numbers are written with the same number of decimals down a column, enough for four significant digits
        of the largest. None is shown as a dash and sorts last. A column of strings that each begin with a
        number ("3.1 ± 0.2") sorts by that number.

        Args:
            columns: the heads. The first column names the row.
            rows: one cell per column: a string, a number or None.
            caption: stands above the table, after its number.
            note: stands below the table.

        Raises:
            SettingsError: no columns, a row of another length, a cell of another type.
        """
        self._blocks.append(_Table(self._count(_Table) + 1, show(columns, rows), len(rows), caption, note))

    def figure(self, fig: Figure, *, alt: str, caption: str = "") -> None:
        """Add a figure, as it is now: later changes to it do not show.

        Args:
            fig: any figure; black and white in it follow the page's theme.
            alt: what the figure shows, in a sentence or two, for readers who cannot see it.
            caption: stands below the figure, after its number.

        Raises:
            SettingsError: alt is empty.
        """
        if not alt.strip():
            raise SettingsError("figure(alt='') needs a text: say in a sentence what the figure shows")
        number = self._count(_Figure) + 1
        svg = Markup(inline_svg(fig, prefix=f"f{number}-", alt=alt))
        self._blocks.append(_Figure(number, svg, caption))

    def render(self) -> str:
        """The page as HTML. The same content gives the same text, byte for byte."""
        script = _asset("page.js")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return _template().render(
            page=self, blocks=self._blocks, style=_asset("page.css"), script=script, digest=digest
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, whole or not at all; its folder is made where it is missing.

        Raises:
            DataError: the file cannot be written; the message names it and the reason, and no part of it is left.
        """
        try:
            write_whole(Path(path), self.render().encode("utf-8", "replace"))
        except OSError as error:
            raise DataError(f"cannot write the report {path}: {error.strerror or error}") from error

    def _count(self, kind: type[_Table] | type[_Figure]) -> int:
        return sum(isinstance(block, kind) for block in self._blocks)


@cache
def _asset(name: str) -> Markup:
    """Our own file, trusted: it goes into the page as it is."""
    return Markup(resources.files("aconite.report").joinpath(name).read_text("utf-8"))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html"))
