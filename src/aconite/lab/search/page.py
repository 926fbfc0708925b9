"""report.html of a search."""

from __future__ import annotations

from collections.abc import Sequence

from aconite.lab.search.finalists import BASELINES
from aconite.lab.search.leaderboard import Finalist, blocks
from aconite.lab.search.rows import Row
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.table import (
    bias_sentence,
    block_table,
    finalist_table,
    learnt_table,
    selection_table,
    standing_sentence,
    tried_sentence,
)
from aconite.report import Page, expression_curves

__all__ = ["search_page"]

_LISTED = 50


def search_page(settings: SearchSettings, finalists: Sequence[Finalist], rows: Sequence[Row]) -> Page:
    """The page for the finalists and all rows."""
    head = rows[0]
    page = Page(
        f"A search in the space “{settings.space}” on {head['data']}",
        subtitle=f"{settings.strategy}, {head['tried']:,} functions in {settings.model}, "
        f"{settings.epochs} epoch{'s' * (settings.epochs > 1)} each",
    )
    page.text(f"{tried_sentence(rows)} {standing_sentence(rows)}", heading="Which function?")
    heads, lines, note = finalist_table(settings, finalists)
    page.table(heads, lines, caption="The finalists.", note=note)
    heads, lines, note = selection_table(finalists)
    page.table(heads, lines, caption="What they were chosen by, and what that was worth.", note=note)
    page.text(bias_sentence(finalists))
    learnt = {
        row["activation"]: row["learnt"] for row in rows if row["kind"] == "finalist" and row["learnt"] is not None
    }
    if shown := [line.text for line in finalists if line.text in learnt]:
        page.figure(
            expression_curves({BASELINES.get(text, text): learnt[text] for text in shown}),
            alt=f"Curves of {len(shown)} functions, as they start and as each channel has learnt them.",
            caption="The finalists: at the start (dark), and in every channel of one trained network.",
        )
    heads, lines, note = learnt_table({text: learnt[text] for text in shown})
    if lines:
        page.table(heads, lines, caption="What their parameters have become.", note=note)
    heads, lines, note = block_table(settings, blocks(rows))
    page.text("What the functions are built of, and where those that have it stand.", heading="Building blocks")
    page.table(heads, lines, caption="Building blocks.", note=note)
    done = sorted((row for row in rows if row["kind"] == "candidate" and row["state"] == "complete"), key=_by_error)
    page.text("One training each, with the same seed: a lucky one may stand far above its worth.", heading="The search")
    page.table(
        ["function", "validation error %"],
        [[row["expression"], row["error"]] for row in done[:_LISTED]],
        caption=f"The {min(_LISTED, len(done))} best of {len(done):,}.",
    )
    page.text(_sentence(head["settings"]), heading="Settings")
    for origin in head["provenance"].values():
        page.text(_sentence(origin), heading="Made with")
    return page


def _by_error(row: Row) -> tuple[float, int]:
    return row["error"], row["number"]


def _sentence(record: Row) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in record.items() if value is not None) + "."
