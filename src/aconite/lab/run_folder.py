"""A run's folder: its settings, one file for each finished cell, the costs, and the rows made of them.

    run.json              the settings, which every later start must share
    cells/<cell>.json     a finished cell: its row and what its activations have learnt
    costs.json            the cost rows
    rows.jsonl            all rows, rebuilt from the files above
    checkpoints/<cell>/   the last two epochs of each cell; checkpoints/.<cell>.lock: who trains it holds this
    report.html
    .lock                 who writes one of the files for all cells holds this

Every file is written beside its place and renamed, so that it is whole whenever the process ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.locks import alone
from aconite.lab.rows import Row
from aconite.lab.training import Cell
from aconite.whole_file import write_whole

__all__ = ["RunFolder", "claim"]


class RunFolder:
    """Opens the folder, or makes it.

    Raises:
        SettingsError: it cannot be written.
        CheckpointError: it holds a run with other settings, or its run.json is damaged.
    """

    def __init__(self, path: Path, settings: Row, tell: Callable[[str], None]) -> None:
        self.path, self._tell = path, tell
        self._cells = path / "cells"
        claim(path, settings)

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    def checkpoints(self, cell: Cell) -> Path:
        return self.path / "checkpoints" / cell.name

    def finished(self, cell: Cell) -> Any:
        """The content of a finished cell's file, or None; a damaged file counts as none, and is told about."""
        return self._read(self._cells / f"{cell.name}.json", "training this cell again")

    def finish(self, cell: Cell, content: Row) -> None:
        write_whole(self._cells / f"{cell.name}.json", _json(content))

    def costs(self) -> list[Row] | None:
        content = self._read(self.path / "costs.json", "measuring again")
        return None if content is None else list(content["rows"])

    def set_costs(self, rows: list[Row]) -> None:
        write_whole(self.path / "costs.json", _json({"rows": rows}))

    def write_rows(self, rows: list[Row]) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with alone(self.lock):
            write_whole(self.path / "rows.jsonl", lines.encode())

    def _read(self, path: Path, then: str) -> Any:
        try:
            return json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._tell(f"{path} is damaged ({error}): {then}")
            return None


def claim(path: Path, settings: Row) -> None:
    """Makes a folder the run's, by writing its settings to run.json; one that is the run's already stays as it is.

    Raises:
        SettingsError: it cannot be written.
        CheckpointError: it holds a run with other settings, or its run.json is damaged.
    """
    with alone(path / ".lock"):  # the cells of a cluster begin at the same moment
        if (stored := _stored_settings(path)) is not None:
            if names := [name for name in stored | settings if stored.get(name) != settings.get(name)]:
                if "task" in names and "task" in stored and "task" in settings:
                    names = ["task"]  # each has settings of its own
                pairs = (f"{name}: {_shown(stored, name)} there, {_shown(settings, name)} now" for name in names)
                told = "; ".join(pairs)
                raise CheckpointError(
                    f"{path} holds a run with other settings ({told}): {_way_on(stored, settings, names)}, or choose "
                    "another folder with --out"
                )
            return
        try:
            write_whole(path / "run.json", _json(settings))
        except OSError as error:
            raise SettingsError(
                f"cannot write to {path}: {error.strerror}; choose another folder with --out"
            ) from error


def _stored_settings(path: Path) -> Row | None:
    try:
        stored: Row = json.loads((path / "run.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path / 'run.json'} ({error}): delete the folder or choose another with --out"
        ) from error
    return stored


def _way_on(stored: Row, settings: Row, names: list[str]) -> str:
    """What to do to go on with the run. The runs of a task have all of its settings, whatever their values, and so have
    its comparisons, of several seeds.
    """
    alike = "task" in stored and stored["task"] == settings.get("task") and ("seeds" in stored) == ("seeds" in settings)
    if alike and not all(name in stored and name in settings for name in names):
        return "another version of Aconite began it, with which it can go on"
    return "repeat its settings to go on with it"


def _shown(record: Row, name: str) -> str:
    value = record.get(name, "not known")
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _json(content: Row) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
