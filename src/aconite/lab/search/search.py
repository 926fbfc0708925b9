"""The job: try functions, train the best again, and write what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from aconite.errors import SettingsError
from aconite.lab.data import ImageData, load
from aconite.lab.search.candidates import best_trials, try_candidates
from aconite.lab.search.child import SearchData
from aconite.lab.search.finalists import BASELINE, BASELINES, train_finalists
from aconite.lab.search.leaderboard import Finalist, known, leaderboard
from aconite.lab.search.page import search_page
from aconite.lab.search.rows import Row, record_origin, search_rows
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import SharedStudy
from aconite.lab.search.storage import open_storage, open_study, watched
from aconite.lab.search.strategies import Exhaustive, pruner_for, sampler_for
from aconite.whole_file import write_whole

__all__ = ["Search", "search"]


@dataclass(frozen=True)
class Search:
    """A finished search: the finalists, the rows behind them, and the page that shows them."""

    settings: SearchSettings
    finalists: Sequence[Finalist]
    rows: Sequence[dict[str, Any]]
    report: Path


def search(
    settings: SearchSettings,
    out: Path | str,
    *,
    storage: str | None = None,
    study: str = "search",
    tell: Callable[[str], None] = lambda text: None,
) -> Search:
    """Search, train the finalists, and write rows.jsonl and report.html to ``out``.

    Any number of processes may run this at once with the same settings and ``out``, or, on several machines, the same
    ``storage``: they share candidates and finalists. Killed at any moment and started again, it goes on; what a dead
    process was at is tried again.

    Args:
        settings: what is searched, and how.
        out: the folder of the run, with its journal where no storage is given.
        storage: the URL of an Optuna storage, such as ``sqlite:///search.db`` or ``postgresql://user@host/base``.
        study: the name in the storage.
        tell: gets lines on how far it is.

    Raises:
        DataError: the data cannot be used as they are.
        SettingsError: the storage or ``out`` cannot be used, or no candidate could be trained.
        CheckpointError: the study was begun with other settings, or its storage was lost on the way.
    """
    out = Path(out)
    data = load(settings.data, settings.image_size)
    device = settings.child("relu").resolved_device
    place = open_storage(storage, out)
    with watched():
        rows, finalists = _searched(settings, data, device, place, study, tell)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(out / "rows.jsonl", lines.encode())
    report = out / "report.html"
    search_page(settings, finalists, rows).write(report)
    return Search(settings, finalists, rows, report)


def _searched(
    settings: SearchSettings, data: ImageData, device: str, place: BaseStorage, study: str, tell: Callable[[str], None]
) -> tuple[list[Row], list[Finalist]]:
    """The rows and the leaderboard of a search that is at its end."""
    parts = SearchData(data, device)
    recorded = settings.recorded(data.name, data.content)
    space = settings.make_space()
    sampler = sampler_for(settings, space)
    searched = SharedStudy(open_study(place, study, recorded, sampler=sampler, pruner=pruner_for(settings)))
    finals = SharedStudy(open_study(place, f"{study}: finalists", recorded))
    origin = record_origin(searched.study, device)
    try_candidates(searched, space, settings, parts, origin, tell)
    searched.wait()
    best = [str(trial.user_attrs["expression"]) for trial in best_trials(searched)]
    if not best:
        raise SettingsError("none of the functions could be trained: give more trials, or another learning rate")
    new = [text for text in best if known(text) not in BASELINES]  # those run anyway
    trained = train_finalists(finals, [*BASELINES, *new[: settings.finalists]], settings, parts, origin, tell)
    functions = len(space.candidates) if isinstance(sampler, Exhaustive) else None
    rows = search_rows(searched, trained, settings, recorded, functions, 100 * (1 - 1 / len(data.classes)))
    return rows, leaderboard(rows, trained.costs, BASELINE)
