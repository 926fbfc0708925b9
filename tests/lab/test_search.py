"""The job: what it writes, how it goes on, and what it does with functions that fail."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.search import SearchSettings, search
from aconite.lab.search import candidates as candidates_room
from aconite.lab.search import finalists as finalists_room

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.search.finalists._COST_SECONDS", 0.0)
    monkeypatch.setattr("aconite.lab.search.shared.PATIENCE", 0.3)
    monkeypatch.setattr("aconite.lab.search.shared.BEAT", 0.05)
    monkeypatch.setattr("aconite.lab.search.shared._WAIT", 0.02)


@pytest.fixture
def pictures(image_folder: Make) -> str:
    return str(image_folder())


def quick(data: str, **changes: Any) -> SearchSettings:
    options: dict[str, Any] = {"space": "maxout", "trials": 6, "finalists": 1, "seeds": 1}
    options |= {"data": data, "epochs": 1, "batch_size": 4, "device": "cpu"}
    return SearchSettings(**(options | changes))


def rows(out: Path, kind: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return [row for row in found if kind is None or row["kind"] == kind]


def without_times(out: Path) -> list[dict[str, Any]]:
    return [{**row, "timing": None} for row in rows(out)]


def counted_trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    for room in (candidates_room, finalists_room):
        train = room.train_child

        def noted(activation: str, *rest: Any, train: Any = train) -> Any:
            seen.append(activation)
            return train(activation, *rest)

        monkeypatch.setattr(room, "train_child", noted)
    return seen


def test_the_whole_job(pictures: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = search(quick(pictures, finalists=2, seeds=2), out)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "rows.jsonl", "study.journal"]
    [head] = rows(out, "search")
    assert (head["functions"], head["tried"], head["failed"]) == (151, 6, 0)
    assert head["settings"]["content"].startswith("sha256:")
    [origin] = head["provenance"].values()
    assert origin.keys() >= {"aconite", "commit", "torch", "optuna", "device", "threads", "native"}
    tried = rows(out, "candidate")
    assert len({row["expression"] for row in tried}) == 6
    assert all(0 <= row["error"] <= 100 and row["made_with"] in head["provenance"] for row in tried)
    best = sorted(tried, key=lambda row: (row["error"], row["number"]))[:2]
    finals = rows(out, "finalist")
    assert Counter(row["activation"] for row in finals) == dict.fromkeys(
        ["relu", "silu", "swish", "acon-c", *(row["expression"] for row in best)], 2
    )
    assert {row["seed"] for row in finals} == {1, 2}  # not the search's seed
    assert [row["activation"] for row in rows(out, "cost")] == list(dict.fromkeys(row["activation"] for row in finals))
    assert [line.test for line in found.finalists] == sorted(line.test for line in found.finalists)
    report = (out / "report.html").read_text()
    for part in ("Which function?", "Building blocks", "Chosen by", best[0]["expression"], "<svg"):
        assert part in report
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
        assert not re.search(rf"\b{re.escape(platform.node())}\b", path.read_text()) or path.suffix == ".html"


def test_what_is_learnt_is_told_of_baselines_too(pictures: str, tmp_path: Path) -> None:
    search(quick(pictures, seeds=2), tmp_path)
    first = {row["activation"]: row["learnt"] for row in rows(tmp_path, "finalist") if row["seed"] == 1}
    assert first["relu"] == first["silu"] == []
    assert {name for layer in first["swish"] for name in layer} == {"beta"}
    assert {name for layer in first["acon-c"] for name in layer} == {"p1", "p2", "beta"}
    assert len(first["swish"]) == len(first["acon-c"]) == 7  # as many as resnet8 has
    assert all(row["learnt"] is None for row in rows(tmp_path, "finalist") if row["seed"] == 2)
    beta = [value for layer in first["swish"] for value in layer["beta"]]
    report = (tmp_path / "report.html").read_text()
    assert "What their parameters have become" in report
    assert f"{sorted(beta)[len(beta) // 2]:.2f}" in report
    assert "smax(p1 * x, p2 * x, beta)" in report  # the panel of acon-c


def test_costs_are_measured_once(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, calls = finalists_room.measure_costs, 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return measure(*arguments)

    monkeypatch.setattr(finalists_room, "measure_costs", counted)
    search(quick(pictures), tmp_path)
    before = (tmp_path / "rows.jsonl").read_bytes()
    search(quick(pictures), tmp_path)
    assert calls == 1
    assert (tmp_path / "rows.jsonl").read_bytes() == before
    search(quick(pictures, finalists=2), tmp_path)
    assert calls == 2


def test_the_finalists_line_is_made_of_its_rows(pictures: str, tmp_path: Path) -> None:
    found = search(quick(pictures, seeds=3), tmp_path)
    for line in found.finalists:
        of = [row for row in rows(tmp_path, "finalist") if row["activation"] == line.text]
        assert line.test == pytest.approx(sum(row["error"] for row in of) / 3)
        assert line.validation == pytest.approx(sum(row["validation_error"] for row in of) / 3)
        chosen = [row["error"] for row in rows(tmp_path, "candidate") if row["expression"] == line.text]
        assert ([line.chosen_by] if line.chosen_by is not None else []) == chosen


def test_it_goes_on_and_repeats_nothing(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(quick(pictures, trials=4), tmp_path / "a")
    trained = counted_trainings(monkeypatch)
    search(quick(pictures, trials=4), tmp_path / "a")
    assert trained == []
    search(quick(pictures), tmp_path / "a")
    search(quick(pictures), tmp_path / "b")
    again = [{**row, "timing": None, "settings": None} for row in rows(tmp_path / "a")]
    assert again == [{**row, "settings": None} for row in without_times(tmp_path / "b")]


def test_other_settings_are_refused(pictures: str, tmp_path: Path) -> None:
    search(quick(pictures), tmp_path)
    before = (tmp_path / "rows.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=r"lr: 0\.1 there, 0\.2 now"):
        search(quick(pictures, lr=0.2), tmp_path)
    assert (tmp_path / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize("strategy", ["random", "evolution", "tpe"])
def test_strategies(strategy: str, pictures: str, tmp_path: Path) -> None:
    search(quick(pictures, strategy=strategy, trials=14, population=4, sample=2), tmp_path)
    tried = rows(tmp_path, "candidate")
    assert len({row["expression"] for row in tried}) == len(tried) == 14
    assert rows(tmp_path, "search")[0]["functions"] is None


def test_evolution_changes_one_gene_of_a_good_one(pictures: str, tmp_path: Path) -> None:
    search(quick(pictures, strategy="evolution", trials=20, population=3, sample=3, space="core", depth=2), tmp_path)
    tried = rows(tmp_path, "candidate")
    done = [row for row in tried if row["state"] == "complete"]
    children = [row for row in tried if sum(other["number"] < row["number"] for other in done) >= 3]
    assert len(children) >= 10
    for child in children:
        living = [row for row in done if row["number"] < child["number"]][-3:]
        parent = min(living, key=lambda row: row["error"])["error"]
        parents = [row["choices"] for row in living if row["error"] == parent]
        changed = [sum(child["choices"][gene] != choices[gene] for gene in choices) for choices in parents]
        assert 1 in changed, child


def test_a_small_space_is_exhausted(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.search.space.FAMILY", ("0", "x", "-x", "tanh(x)"))
    said: list[str] = []
    search(quick(pictures, trials=None), tmp_path, tell=said.append)
    tried = {row["expression"] for row in rows(tmp_path, "candidate")}
    assert len(tried) == 9  # six pairs, and three with themselves
    assert {"smax(x, 0, beta)", "x", "smax(x, tanh(x), beta)"} <= tried
    assert "every function of the space has been tried" in said


def test_what_every_search_is_compared_with_is_no_finalist_again(
    pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aconite.lab.search.space.FAMILY", ("0", "x"))
    found = search(quick(pictures, trials=None, finalists=5), tmp_path)
    assert {row["expression"] for row in rows(tmp_path, "candidate")} == {"x", "smax(x, 0, beta)"}
    assert {line.text for line in found.finalists} == {"relu", "silu", "swish", "acon-c", "x"}


def test_functions_that_blow_up_are_recorded(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With such a learning rate all do after a step or two; some functions overflow at once, or have no value."""
    with pytest.raises(SettingsError, match="none of the functions could be trained"):
        search(quick(pictures, lr=1e30, epochs=3), tmp_path / "all")
    monkeypatch.setattr("aconite.lab.search.space.FAMILY", ("x", "0", "sqrt(x)", "exp(exp(exp(x ** 2 + 9)))"))
    out = tmp_path / "some"
    search(quick(pictures, trials=None), out)
    failed = [row for row in rows(out, "candidate") if row["state"] == "failed"]
    assert len(failed) >= 5
    assert all(row["error"] is None and "the loss is not finite in epoch 1" in row["reason"] for row in failed)
    assert rows(out, "search")[0]["failed"] == len(failed)
    assert "NaN" not in (out / "rows.jsonl").read_text()
    assert "blew up" in (out / "report.html").read_text()


def test_pruning(pictures: str, tmp_path: Path) -> None:
    search(quick(pictures, pruner="halving", epochs=6, trials=12), tmp_path)
    states = Counter(row["state"] for row in rows(tmp_path, "candidate"))
    assert states["pruned"] > 0
    assert states["complete"] > 0
    assert sum(states.values()) == 12


def interrupted_at_the_third(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained; the third training is broken off."""
    train, seen = candidates_room.train_child, list[str]()

    def interrupted(activation: str, *rest: Any) -> Any:
        seen.append(activation)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return train(activation, *rest)

    monkeypatch.setattr(candidates_room, "train_child", interrupted)
    return seen


def test_an_interrupted_trial_is_tried_again(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_at_the_third(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        search(quick(pictures), tmp_path / "a")
    search(quick(pictures), tmp_path / "a")
    search(quick(pictures), tmp_path / "b")
    tried = [[(row["expression"], row["error"]) for row in rows(tmp_path / out, "candidate")] for out in "ab"]
    assert tried[0] == tried[1]


@pytest.mark.parametrize("strategy", ["random", "evolution", "tpe"])
def test_an_interrupted_trial_is_the_next_whatever_the_strategy_would_choose(
    strategy: str, pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = interrupted_at_the_third(monkeypatch)
    settings = quick(pictures, strategy=strategy, population=2, sample=1)
    with pytest.raises(KeyboardInterrupt):
        search(settings, tmp_path)
    search(settings, tmp_path)
    assert seen[3] == seen[2]
    assert [row["expression"] for row in rows(tmp_path, "candidate")] == seen[:2] + seen[3:]


@pytest.mark.parametrize("room", [candidates_room, finalists_room])
def test_a_process_that_was_taken_for_dead_gives_way(
    room: Any, pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trial is ended by another while it trains; what it then has is dropped, and the work is done once more."""
    import optuna

    train, calls = room.train_child, 0

    def buried(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            storage = optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(tmp_path / "a" / "study.journal"))
            )
            name = "search" if room is candidates_room else "search: finalists"
            study = optuna.load_study(study_name=name, storage=storage)
            [running] = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
            study.tell(running.number, state=optuna.trial.TrialState.FAIL)
        return train(*arguments)

    monkeypatch.setattr(room, "train_child", buried)
    search(quick(pictures), tmp_path / "a")
    count = calls
    search(quick(pictures), tmp_path / "b")
    assert calls - count == count - 1
    assert_same_results(tmp_path)


def assert_same_results(tmp_path: Path) -> None:
    """The runs a and b have the same rows, times and the numbers of their trials aside."""
    both = [[{**row, "number": None} for row in without_times(tmp_path / out)] for out in "ab"]
    assert both[0] == both[1]


def test_sqlite(pictures: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    search(quick(pictures), tmp_path / "a", storage=url, study="mine")
    assert not (tmp_path / "a" / "study.journal").exists()
    search(quick(pictures), tmp_path / "b", storage=url, study="mine")
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")


PROGRAM = """
import sys, time, torch
torch.set_num_threads(1)
from pathlib import Path
from aconite.lab.search import candidates, finalists, search, SearchSettings
from aconite.lab.search import shared
finalists._COST_SECONDS, shared._WAIT = 0.0, 0.05
shared.PATIENCE, shared.BEAT = {patience}, 0.1
calls, train = 0, candidates.train_child
def slow(*arguments):
    global calls
    calls += 1
    if calls == {hang_at}:
        Path({marker!r}).write_text(arguments[0])
        time.sleep(1000)
    time.sleep({pause})
    return train(*arguments)
candidates.train_child = slow
Path({ready!r} + sys.argv[1]).touch()
while not Path({go!r}).exists():
    time.sleep(0.01)
search({settings!r}, {out!r})
print(calls)
"""


def program(tmp_path: Path, settings: SearchSettings, **options: Any) -> str:
    given = {
        "hang_at": 0, "pause": 0.0, "patience": 30.0, "settings": settings, "out": str(tmp_path / "run"),
        "marker": str(tmp_path / "hangs"), "ready": str(tmp_path / "ready"), "go": str(tmp_path / "go"),
    } | options  # fmt: skip
    return PROGRAM.format(**given)


@pytest.mark.slow
def test_two_processes_share_a_study(pictures: str, tmp_path: Path) -> None:
    code = program(tmp_path, quick(pictures, trials=14, finalists=2, seeds=2), pause=0.1)
    both = [
        subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True) for name in ("1", "2")
    ]
    while len(list(tmp_path.glob("ready*"))) < 2:
        assert all(process.poll() is None for process in both)
        time.sleep(0.02)
    (tmp_path / "go").touch()
    calls = [int(process.communicate(timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(calls) == 14
    assert min(calls) >= 3
    tried = rows(tmp_path / "run", "candidate")
    assert len({row["expression"] for row in tried}) == len(tried) == 14
    keys = [(row["activation"], row["seed"]) for row in rows(tmp_path / "run", "finalist")]
    assert len(keys) == len(set(keys)) == 12


def test_what_a_killed_process_was_at_is_tried_again(pictures: str, tmp_path: Path) -> None:
    settings = quick(pictures)
    (tmp_path / "go").touch()
    process = subprocess.Popen([sys.executable, "-c", program(tmp_path, settings, hang_at=3), "1"])
    marker = tmp_path / "hangs"
    while not marker.exists() or not marker.read_text():
        assert process.poll() is None, "it ended too early"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    search(settings, tmp_path / "run")
    tried = rows(tmp_path / "run", "candidate")
    assert [row["state"] for row in tried] == ["complete"] * 6
    assert marker.read_text() in {row["expression"] for row in tried}
    search(settings, tmp_path / "whole")
    expected = {(row["expression"], row["error"]) for row in rows(tmp_path / "whole", "candidate")}
    assert {(row["expression"], row["error"]) for row in tried} == expected


def test_a_missing_package_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from aconite.errors import MissingExtraError\n"
        "try: import aconite.lab.search\n"
        "except MissingExtraError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "this needs optuna, which is not installed: pip install 'aconite[search]'\n"
