"""report.html of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aconite.lab.learnt import Learnt
from aconite.lab.rows import Row
from aconite.lab.settings import CompareSettings
from aconite.lab.summary import ERROR, Line, cells_of
from aconite.lab.table import cost_table, error_table, verdict
from aconite.report import LayerParameters, Page, activation_curves, beta_histograms, training_curves

__all__ = ["compare_page", "sentence"]


def compare_page(
    settings: CompareSettings, lines: Sequence[Line], cells: Sequence[Row], learnt: Mapping[str, Learnt]
) -> Page:
    """The page for the lines of a summary, all cells' rows, and what one cell of each activation has learnt."""
    names = [line.activation for line in lines]
    seeds = f"{settings.seeds} seed{'s' if settings.seeds > 1 else ''}"
    page = Page(
        f"{', '.join(names)} in {settings.model} on {cells[0]['data']}",
        subtitle=f"{seeds}, {settings.epochs} epochs, learnable activations start as “{settings.init}”",
    )
    page.text(verdict(ERROR, settings.baseline, settings.seeds, lines), heading="Which activation?")
    for caption, (heads, rows, note) in (
        ("Test error.", error_table(settings, lines)),
        ("Cost.", cost_table(settings, lines)),
    ):
        page.table(heads, rows, caption=caption, note=note)
    page.text(
        "The training error is the one while the epoch ran, on shifted (and, for photographs, mirrored) images: it can "
        "lie above the test error.",
        heading="Training",
    )
    page.figure(
        training_curves(
            {name: [row["train_errors"] for row in cells_of(cells, name)] for name in names},
            {name: [row["test_errors"] for row in cells_of(cells, name)] for name in names},
        ),
        alt=f"Training and test error of {', '.join(names)} over {settings.epochs} epochs.",
        caption="Training and test error, epoch by epoch.",
    )
    _add_learnt(page, learnt)
    page.text(sentence(cells[0]["settings"]), heading="Settings")
    page.text(sentence(cells[0]["provenance"]), heading="Made with")
    return page


def _add_learnt(page: Page, learnt: Mapping[str, Learnt]) -> None:
    if not any(found["layers"] for found in learnt.values()):
        return
    page.text(
        "One seed of each learnable activation. One curve for each channel; Meta-ACON's are drawn at the mean β of "
        "seven test images.",
        heading="What was learnt",
    )
    for name, found in learnt.items():
        if found["layers"]:
            page.figure(
                activation_curves({title: LayerParameters(**values) for title, values in found["layers"].items()}),
                alt=f"Learnt curves of {name} in {len(found['layers'])} layers.",
                caption=f"{name}: what its channels compute after training.",
            )
    for name, found in learnt.items():
        if found["beta"]:
            generated = len(found["beta"]) > 1
            page.figure(
                beta_histograms(found["beta"], title=name),
                alt=f"Distribution of β in the last layer of {name}.",
                caption=f"{name}: β over the channels of its last layer, "
                + ("generated anew for each image." if generated else "the same for every image."),
            )


def sentence(record: Row) -> str:
    """A record's entries in words; those without a value are left out."""
    shown = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in record.items()}
    return "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in shown.items() if value is not None) + "."
