"""report.html of a study."""

from __future__ import annotations

from collections.abc import Sequence

from aconite.lab.rows import Row
from aconite.lab.statistics import PairedDifference
from aconite.lab.study.contrasts import Arm
from aconite.lab.study.findings import Findings, arms_of
from aconite.lab.study.settings import StudySettings
from aconite.lab.study.tables import conclusions, study_tables
from aconite.report import Interval, Page, interval_chart, network_errors, training_curves

__all__ = ["study_page"]


def study_page(settings: StudySettings, findings: Findings, rows: Sequence[Row]) -> Page:
    """The conclusions, every table with its figure, and the learning curves."""
    shared, first = settings.shared, rows[0]
    page = Page(
        f"{', '.join(shared.activations)} on {first['data']}",
        subtitle=f"{', '.join(settings.networks)}; {shared.seeds} seeds, {shared.epochs} epochs, inits "
        f"{', '.join(settings.inits)}",
    )
    for number, sentence in enumerate(conclusions(findings)):
        page.text(sentence, heading=None if number else "What this study says")
    for caption, (heads, cells, note) in study_tables(settings, findings).items():
        page.text(note, heading=caption)
        page.table(heads, cells)
        _add_figure(page, caption, settings, findings)
    _add_learning_curves(page, settings, arms_of(rows))
    page.text(
        "Each comparison has a folder of its own beside this page, with its costs, its learnt curves and its settings.",
        heading="More",
    )
    return page


def _add_figure(page: Page, caption: str, settings: StudySettings, findings: Findings) -> None:
    where = {network: f", {network}" if len(settings.networks) > 1 else "" for network in settings.networks}
    if caption == "The claim, pair by pair":
        pairs = {
            f"{each.arm.label} − {each.other.label}{where[each.arm.network]}": each.difference
            for each in findings.claim
        }
        _add_intervals(page, pairs, "The claim says that each difference is below 0.")
    elif caption == "The init of learnt activations":
        pairs = {
            f"{each.arm.activation}: {each.arm.init} − {each.other.init}{where[each.arm.network]}": each.difference
            for each in findings.inits
        }
        _add_intervals(page, pairs, "Below 0: better than the reference init.")
    elif caption == "Over depth":
        arms = dict.fromkeys(arm for each in findings.depth for arm in (each.other, each.arm))
        series = {
            network: {arm.label: findings.errors[arm] for arm in arms if arm.network == network}
            for network in settings.depths
        }
        page.figure(
            network_errors(series),
            alt=f"Test error of {', '.join(settings.depth_activations)} in {', '.join(settings.depths)}.",
            caption="Test error over depth; dots are seeds.",
        )
        pairs = {
            f"{each.arm.label} − {each.other.label}, {each.arm.network}": each.difference for each in findings.depth
        }
        _add_intervals(page, pairs, "The same as differences, shallow to deep.")


def _add_intervals(page: Page, differences: dict[str, PairedDifference], caption: str) -> None:
    page.figure(
        interval_chart({name: Interval(found.mean, found.low, found.high) for name, found in differences.items()}),
        alt=f"Mean difference and 95 % interval of {len(differences)} pairs, as in the table above.",
        caption=f"{caption} Lines: 95 % intervals.",
    )


def _add_learning_curves(page: Page, settings: StudySettings, arms: dict[Arm, list[Row]]) -> None:
    page.text(
        "The training error is the one while the epoch ran, on shifted (and, for photographs, mirrored) images: it can "
        "lie above the test error.",
        heading="Training",
    )
    for network in settings.networks:
        for init in settings.inits:
            shown = {
                arm.activation: rows for arm, rows in arms.items() if arm[::2] in ((network, init), (network, None))
            }
            page.figure(
                training_curves(
                    {name: [row["train_errors"] for row in rows] for name, rows in shown.items()},
                    {name: [row["test_errors"] for row in rows] for name, rows in shown.items()},
                ),
                alt=f"Training and test error of {', '.join(shown)} in {network} over the epochs.",
                caption=f"{network}, learnt activations started as “{init}”.",
            )
