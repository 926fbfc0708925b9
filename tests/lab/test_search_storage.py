"""Where studies lie: journals that crashes left behind, and databases that many processes open at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.exc
from optuna.storages import RDBStorage
from optuna.storages.journal import JournalFileSymlinkLock

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.search import SearchSettings, search
from aconite.lab.search import candidates as candidates_room
from aconite.lab.search import storage as storage_room
from aconite.lab.search.storage import open_storage, open_study


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aconite.lab.search.finalists._COST_SECONDS", 0.0)
    monkeypatch.setattr(storage_room, "_PAUSE", 0.0)


def begun(folder: Path, trials: int = 2) -> optuna.Study:
    study = open_study(open_storage(None, folder), "search", {})
    for _ in range(trials):
        study.tell(study.ask(), 1.0)
    return study


@pytest.mark.filterwarnings("ignore:The value of `grace_period`")
def test_a_lock_that_a_killed_process_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(storage_room, "JournalFileSymlinkLock", partial(JournalFileSymlinkLock, grace_period=1))
    study = begun(Path("run"))
    study._storage._backend._lock.acquire()  # type: ignore[attr-defined]  # here it dies
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(begun(Path("run")).trials)), daemon=True)
    thread.start()
    thread.join(60)  # a second or two, unless the machine is busy
    assert found == [4]


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    begun(tmp_path)
    journal = tmp_path / "study.journal"
    content = journal.read_bytes()
    journal.write_bytes(content[:-9])  # the second trial's result
    assert [trial.state.name for trial in begun(tmp_path, trials=1).trials] == ["COMPLETE", "RUNNING", "COMPLETE"]
    assert len(open_study(open_storage(None, tmp_path), "search", {}).trials) == 3


def test_a_damaged_journal(tmp_path: Path) -> None:
    begun(tmp_path)
    journal = tmp_path / "study.journal"
    journal.write_bytes(b"{]\n" + journal.read_bytes())
    with pytest.raises(CheckpointError, match=r"study.journal is damaged .* delete it to begin anew"):
        open_storage(None, tmp_path)


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write to"):
        open_storage(None, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "cannot open the nonsense storage: .* write sqlite:///FILE for instance"),
        ("nonsense://x", "cannot open the nonsense storage: .* write sqlite:///FILE for instance"),
        ("sqlite:////nowhere/at/all.db", "cannot open the sqlite storage: .* must exist and be reachable"),
        ("mysql://me@localhost/x", "cannot open the mysql storage: the driver MySQLdb is not installed; install it"),
        (
            "postgresql+psycopg2://me@localhost/x",
            "the driver psycopg2 is not installed; .* such as postgresql",
        ),
    ],
)
def test_a_storage_that_cannot_be_opened(url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for driver in ("MySQLdb", "psycopg2"):
        monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(SettingsError, match=words):
        open_storage(url, tmp_path)


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(SettingsError, match="must exist and be reachable") as raised:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/x", tmp_path)
    assert "secret" not in str(raised.value)


def test_tables_that_another_process_makes_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def raced(url: str, **options: Any) -> RDBStorage:
        calls.append(url)
        if len(calls) < 3:
            raise sqlalchemy.exc.IntegrityError("CREATE TABLE studies", None, Exception("duplicate key"))
        return RDBStorage(url, **options)

    monkeypatch.setattr(storage_room, "RDBStorage", raced)
    url = f"sqlite:///{tmp_path / 'search.db'}"
    assert open_study(open_storage(url, tmp_path), "search", {}).trials == []
    assert calls == [url] * 3


def test_a_database_that_is_lost_on_the_way(
    image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, kept = tmp_path / "search.db", tmp_path / "kept.db"
    train, calls = candidates_room.train_child, 0

    def lost(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            shutil.copy(base, kept)
            base.write_bytes(b"no database" * 1000)
        return train(*arguments)

    monkeypatch.setattr(candidates_room, "train_child", lost)
    monkeypatch.setattr("aconite.lab.search.shared.PATIENCE", 0.1)
    settings = SearchSettings(
        space="maxout", trials=4, finalists=1, seeds=1, data=str(image_folder()), epochs=1, batch_size=4, device="cpu"
    )
    with pytest.raises(CheckpointError, match=r"the storage was lost \(.*\): start the same command again"):
        search(settings, tmp_path, storage=f"sqlite:///{base}")
    shutil.copy(kept, base)
    found = search(settings, tmp_path, storage=f"sqlite:///{base}")
    assert found.rows[0]["tried"] == 4


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a database of a server of this test's own."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("there is no PostgreSQL server on the path")
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
    programs = Path(found).resolve().parent
    with tempfile.TemporaryDirectory() as base:  # pytest's folders are closed to other users
        if user:
            shutil.chown(base, user)

        def call(program: str, *arguments: str) -> None:
            command = [programs / program, "-D", f"{base}/data", *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=base, user=user)

        call("initdb", "-A", "trust", "-U", "me", "--no-sync")
        call("pg_ctl", "-o", f"-k {base} -c listen_addresses= -c fsync=off", "-l", f"{base}/log", "-w", "start")
        yield f"postgresql+psycopg://me@/postgres?host={base}"
        call("pg_ctl", "-m", "fast", "stop")


@pytest.mark.slow
def test_two_processes_on_an_empty_postgresql(
    postgresql: str, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "aconite", "search", "--space", "maxout", "--trials", "14", "--finalists", "2", "--seeds",
        "2", "--epochs", "1", "--batch-size", "4", "--device", "cpu", "--data", str(image_folder()), "--storage",
        postgresql,
    ]  # fmt: skip
    both = [subprocess.Popen([*command, "--out", str(tmp_path / name)]) for name in "ab"]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    a, b = ([json.loads(line) for line in (tmp_path / n / "rows.jsonl").read_text().splitlines()] for n in "ab")
    assert a == b  # times too: each training and each cost was measured once
    tried = [row["expression"] for row in a if row["kind"] == "candidate"]
    assert len(set(tried)) == len(tried) == 14
    finals = [(row["activation"], row["seed"]) for row in a if row["kind"] == "finalist"]
    assert len(set(finals)) == len(finals) == 12
