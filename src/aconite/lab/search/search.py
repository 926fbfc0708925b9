"""The job: try functions, train the best again, and write what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aconite.errors import SettingsError
from aconite.lab.costs import Cost
from aconite.lab.data import load
from aconite.lab.search.candidates import best_trials, try_candidates
from aconite.lab.search.child import SearchData
from aconite.lab.search.finalists import BASELINES, costs_of, train_finalists
from aconite.lab.search.leaderboard import Finalist, known, leaderboard
from aconite.lab.search.page import search_page
from aconite.lab.search.rows import record_origin, search_rows
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.shared import SharedStudy
from aconite.lab.search.storage import open_storage, open_study
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
        CheckpointError: the study was begun with other settings.
    """
    out = Path(out)
    data = load(settings.data, settings.image_size)
    device = settings.child("relu").resolved_device
    parts = SearchData(data, device)
    recorded = settings.recorded(data.name, data.content)
    space = settings.make_space()
    place = open_storage(storage, out)
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
    activations = [*BASELINES, *new[: settings.finalists]]
    train_finalists(finals, activations, settings, parts, record_origin(finals.study, device), tell)
    costs = _costs(finals, activations, settings, parts, tell)
    rows = search_rows(
        searched, finals, settings, recorded,
        len(space.candidates) if isinstance(sampler, Exhaustive) else None,
        activations, costs, 100 * (1 - 1 / len(data.classes)),
    )  # fmt: skip
    finalists = leaderboard(rows, costs, BASELINES[0])
    report = out / "report.html"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(out / "rows.jsonl", lines.encode())
    search_page(settings, finalists, rows).write(report)
    return Search(settings, finalists, rows, report)


def _costs(
    finals: SharedStudy,
    activations: Sequence[str],
    settings: SearchSettings,
    data: SearchData,
    tell: Callable[[str], None],
) -> dict[str, Cost]:
    """The costs, measured once for a list of activations."""
    stored = finals.study.user_attrs.get("costs", {})
    if list(stored) != list(activations):
        tell("measuring what each finalist costs")
        stored = {name: asdict(cost) for name, cost in costs_of(activations, settings, data).items()}
        finals.study.set_user_attr("costs", stored)
    return {name: Cost(**stored[name]) for name in activations}
