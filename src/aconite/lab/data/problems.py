"""What can be wrong with a data set on disk, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Literal, NamedTuple, get_args

from aconite.errors import DataError, SettingsError

__all__ = ["KINDS", "Policy", "Problem", "check_policy", "check_there", "count_kinds", "settle", "shown"]

Policy = Literal["skip", "stop"]

KINDS = {  # in the order in which they are listed
    "missing-file": "missing file",
    "truncated-image": "truncated image",
    "unreadable-image": "unreadable image",
    "wrong-mode": "wrong kind of pixels",
    "size-mismatch": "size unlike the annotation's",
    "broken-annotation": "broken annotation",
    "empty-annotation": "empty annotation",
    "no-annotation": "image without annotation",
    "unknown-class": "unknown class",
    "box-outside": "box outside the image",
    "degenerate-box": "degenerate box",
    "mask-value": "mask value beyond the classes",
    "missing-class": "missing class folder",
    "empty-class": "empty class folder",
    "misplaced": "file in the wrong place",
    "duplicate-name": "duplicate name",
}
_LISTED = 20  # in an error message; `aconite check-data` lists all


class Problem(NamedTuple):
    """One thing that is wrong: a name of `KINDS`, the file, and the reason in words."""

    kind: str
    path: PurePath
    reason: str


def shown(path: PurePath, folder: Path) -> str:
    """A path as a person looks for it: below the data set's folder where it lies there."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
    """How many problems of each kind there are, in the order of `KINDS`, without zeros.

    >>> count_kinds([Problem("box-outside", Path("a.xml"), ""), Problem("missing-file", Path("a.jpg"), "")])
    {'missing-file': 1, 'box-outside': 1}
    """
    counts = Counter(problem.kind for problem in problems)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def check_policy(policy: str) -> None:
    """Raises SettingsError unless the policy is "skip" or "stop"."""
    if policy not in get_args(Policy):
        raise SettingsError(f"problems is {policy!r}: choose skip (leave out what is wrong and count it) or stop")


def check_there(folder: Path) -> None:
    """Raises DataError unless there is such a folder."""
    if not folder.is_dir():
        raise DataError(f"no data at {folder}: name the folder of a data set")


def settle(problems: Sequence[Problem], policy: Policy, folder: Path) -> None:
    """Raises DataError with the list of problems if there are any and the policy is "stop"."""
    if not problems or policy == "skip":
        return
    counts = ", ".join(f"{count}× {KINDS[kind]}" for kind, count in count_kinds(problems).items())
    lines = [f"  {shown(problem.path, folder)}: {problem.reason}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  … and {len(problems) - _LISTED} more, which `aconite check-data {folder}` lists")
    raise DataError(
        f"{folder} has problems ({counts}); correct them, or go on without what is wrong by problems skip:\n"
        + "\n".join(lines)
    )
