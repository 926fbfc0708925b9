"""The optional file classes.txt of a data set: one name a line, in the order of the labels."""

from __future__ import annotations

from pathlib import Path

from aconite.errors import DataError

__all__ = ["read_class_names"]


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The names in the folder's classes.txt; None without one.

    Raises:
        DataError: a name stands there twice, or none does.
    """
    path = folder / "classes.txt"
    if not path.is_file():
        return None
    names = tuple(name for line in path.read_text("utf-8").splitlines() if (name := line.strip()))
    if not names:
        raise DataError(f"{path} is empty: write one class name a line, or remove it")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} names {twice[0]!r} twice: each class needs a name of its own")
    return names
