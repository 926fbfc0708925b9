"""Trains the rows of a table, on other data and a smaller budget than the paper's: one comparison for each network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aconite.errors import SettingsError
from aconite.lab.comparison import compare
from aconite.lab.progress import Progress
from aconite.lab.settings import CompareSettings
from aconite.lab.tables.printed import PublishedTable

__all__ = ["table_runs", "train_table"]


def table_runs(table: PublishedTable, **given: Any) -> dict[str, CompareSettings]:
    """Folder → settings of the comparisons that fill the table; ``given`` are those of `CompareSettings`.

    Raises:
        SettingsError: the table's task cannot be trained this way, or a setting is not allowed.

    >>> from aconite.lab import published_table
    >>> runs = table_runs(published_table("3").only(["resnet18"]), data="mnist5k", seeds=5)
    >>> runs["resnet18"].activations, runs["resnet18"].seeds
    (('relu', 'acon-a', 'acon-b', 'acon-c'), 5)
    """
    if table.task != "classification":
        raise SettingsError(
            f"table {table.name} cannot be trained by this command yet, which trains classification only: give the "
            f"rows of {table.task} trainings with --rows"
        )
    runs: dict[str, CompareSettings] = {}
    for network, se in dict.fromkeys((row.network, row.se) for row in table.rows):
        names = tuple(row.activation for row in table.rows if (row.network, row.se) == (network, se))
        settings = {"model": network, "activations": names, **given} | ({"se": True} if se else {})
        runs[f"{network}-se" if se else network] = CompareSettings(**settings)
    return runs


def train_table(table: PublishedTable, out: Path, *, progress: Callable[[], Progress] = Progress, **given: Any) -> None:
    """Train what is not finished yet, each network in its own folder below ``out``; stopped, it goes on there.

    Raises:
        SettingsError: a setting is unknown or out of range, or the table has nothing to train.
        DataError: the data cannot be used as they are.
        CheckpointError: a folder holds a run with other settings.
    """
    for folder, settings in table_runs(table, **given).items():
        compare(settings, out / folder, progress())
