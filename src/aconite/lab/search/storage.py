"""Where the studies of a search lie: one of Optuna's storages, which any number of processes share."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.search.settings import BUDGET

__all__ = ["open_storage", "open_study"]


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of a URL, such as ``sqlite:///search.db`` or ``postgresql://…``; of none, a journal in the folder.

    Raises:
        SettingsError: it cannot be opened.
        CheckpointError: the journal is damaged.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    if url is not None:
        try:
            return optuna.storages.get_storage(url)
        except Exception as error:  # whatever SQLAlchemy and the database's driver raise
            place = url.partition("://")[0]
            reason = str(error).partition("\n")[0]
            raise SettingsError(
                f"cannot open the {place} storage: {reason}; write sqlite:///FILE for instance"
            ) from error
    journal = folder / "study.journal"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return JournalStorage(JournalFileBackend(str(journal)))
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    except ValueError as error:
        raise CheckpointError(
            f"{journal} is damaged ({error}): delete it to begin anew, or choose another folder with --out"
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
