"""Where the studies of a search lie: one of Optuna's storages, which any number of processes share."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.search.settings import BUDGET

__all__ = ["LOST", "open_storage", "open_study", "watched"]

LOST = (StorageInternalError, SQLAlchemyError)
"""What a call raises when its database is out of reach."""

_TRIES, _PAUSE = 5, 0.3  # of opening a database: processes that start together all try to make its tables


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of a URL, such as ``sqlite:///search.db`` or ``postgresql://…``; of none, a journal in the folder.

    Raises:
        SettingsError: it cannot be opened.
        CheckpointError: the journal is damaged.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    return _journal(folder) if url is None else _database(url)


def _database(url: str, tries: int = _TRIES) -> BaseStorage:
    what = f"cannot open the {url.partition('://')[0]} storage"
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})  # a server may drop what is long idle
    except ImportError as error:
        driver = getattr(error.__cause__, "name", None) or "for it"
        raise SettingsError(
            f"{what}: the driver {driver} is not installed; install it, or name another in the URL, such as "
            "postgresql+psycopg://… or mysql+pymysql://…"
        ) from error
    except DBAPIError as error:
        if tries == 1:
            raise SettingsError(f"{what}: {_first_line(error)}; the database must exist and be reachable") from error
        time.sleep(_PAUSE)
        return _database(url, tries - 1)
    except (SQLAlchemyError, ValueError) as error:
        raise SettingsError(f"{what}: {_first_line(error)}; write sqlite:///FILE for instance") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _journal(folder: Path) -> BaseStorage:
    # Optuna's lock is a link to this path: a relative one leads nowhere, and one that a killed process left would
    # never be taken for old
    journal = folder.resolve() / "study.journal"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(str(journal))
        _mend(journal, lock)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return JournalStorage(JournalFileBackend(str(journal), lock))
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    except ValueError as error:
        raise CheckpointError(
            f"{folder / journal.name} is damaged ({error}): delete it to begin anew, or choose another folder with "
            "--out"
        ) from error


def _mend(journal: Path, lock: JournalFileSymlinkLock) -> None:
    """Drop a last line that a crash or a full disk cut short: what is appended would run into it."""
    lock.acquire()
    try:
        content = journal.read_bytes() if journal.exists() else b""
        if (whole := content.rfind(b"\n") + 1) < len(content):
            os.truncate(journal, whole)
    finally:
        lock.release()


@contextmanager
def watched() -> Iterator[None]:
    """Turns the loss of the storage into one line.

    Raises:
        CheckpointError: the storage could not be reached any more.
    """
    try:
        yield
    except LOST as error:
        reason = _first_line(error.__cause__ or error)
        raise CheckpointError(
            f"the storage was lost ({reason}): start the same command again when it is back, and the search goes on"
        ) from error


def open_study(storage: BaseStorage, name: str, settings: dict[str, Any], **options: Any) -> optuna.Study:
    """The study of this name, made where there is none; ``settings`` are those that every process must share.

    Raises:
        CheckpointError: it was made with other settings.
    """
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True, **options)
    wanted = {key: value for key, value in settings.items() if key not in BUDGET}
    stored = study.user_attrs.get("settings")
    if stored is None:
        study.set_user_attr("settings", wanted)
    elif stored != wanted:
        names = [key for key in stored | wanted if stored.get(key) != wanted.get(key)]
        told = "; ".join(f"{key}: {stored.get(key)} there, {wanted.get(key)} now" for key in names)
        raise CheckpointError(
            f"the study {name!r} was begun with other settings ({told}): repeat them to go on with it, or choose "
            "another folder with --out, or another study with --study"
        )
    return study
