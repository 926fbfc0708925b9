"""Trains the rows of a table, on other data and a smaller budget than the paper's: one comparison for each network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aconite.errors import SettingsError
from aconite.lab.comparison import compare
from aconite.lab.progress import Progress
from aconite.lab.settings import CompareSettings
from aconite.lab.tables.printed import PublishedTable

if TYPE_CHECKING:
    from aconite.lab.runs import RunSettings

__all__ = ["table_runs", "train_table", "train_table_runs"]


def table_runs(table: PublishedTable, **given: Any) -> dict[str, CompareSettings]:
    """Folder → settings of the comparisons that fill the table; ``given`` are those of `CompareSettings`.

    Raises:
        SettingsError: the table's rows are no classifiers, or a setting is not allowed.

    >>> from aconite.lab import published_table
    >>> runs = table_runs(published_table("3").only(["resnet18"]), data="mnist5k", seeds=5)
    >>> runs["resnet18"].activations, runs["resnet18"].seeds
    (('relu', 'acon-a', 'acon-b', 'acon-c'), 5)
    """
    if table.task != "classification":
        raise SettingsError(
            f"the rows of table {table.name} are whole runs of {table.task}: write aconite table {table.name} --train, "
            "with the name first, or call train_table_runs"
        )
    return {
        folder: CompareSettings(**{"model": network, "activations": names, **given} | ({"se": True} if se else {}))
        for folder, network, se, names in _networks(table)
    }


def train_table(table: PublishedTable, out: Path, *, progress: Callable[[], Progress] = Progress, **given: Any) -> None:
    """Train what is not finished yet, each network in its own folder below ``out``; stopped, it goes on there.

    Raises:
        SettingsError: a setting is unknown or out of range, or the table's rows are no classifiers.
        DataError: the data cannot be used as they are.
        CheckpointError: a folder holds a run with other settings.
    """
    for folder, settings in table_runs(table, **given).items():
        compare(settings, out / folder, progress())


def train_table_runs(table: PublishedTable, shared: RunSettings, out: Path, *, seeds: int = 3, **shown: Any) -> None:
    """Train what is not finished yet of a table whose rows are whole runs, as `train_table` does with small images.

    Args:
        table: its rows give each run's network, activation and SE.
        shared: all other settings, as `aconite.lab.runs.resolve` makes them; its task is the table's.
        out: a folder for each network is below it, as `aconite.lab.runs.compare_runs` leaves it.
        seeds: runs of each row.
        shown: ``progress`` and ``tell`` of `compare_runs`.

    Raises:
        SettingsError: a value that is not allowed, or settings of another task.
        DataError: the data cannot be used as they are.
        CheckpointError: a folder holds a comparison with other settings.
    """
    from aconite.lab.runs import RunsSettings, compare_runs  # needs the extra vision, which printing a table does not

    if shared.task != table.task:
        raise SettingsError(f"the settings are of {shared.task}, and table {table.name} is of {table.task}")
    comparisons = {
        folder: RunsSettings(
            shared=replace(shared, model=network, se=se, activation=names[0]), activations=names, seeds=seeds
        )
        for folder, network, se, names in _networks(table)
    }
    for folder, settings in comparisons.items():
        compare_runs(settings, out / folder, **shown)


def _networks(table: PublishedTable) -> Iterator[tuple[str, str, bool, tuple[str, ...]]]:
    """Each network's folder, name, SE and activations."""
    for network, se in dict.fromkeys((row.network, row.se) for row in table.rows):
        names = tuple(row.activation for row in table.rows if (row.network, row.se) == (network, se))
        yield f"{network}-se" if se else network, network, se, names
