"""Folders of classes, ``train/<class>/*`` and ``test/<class>/*`` (or ``val``), ImageNet's among them: what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aconite.errors import DataError
from aconite.lab.data.image_files import Header, Probe, list_images, probe_each
from aconite.lab.data.problems import Problem

__all__ = ["ClassFolders", "ClassListing", "check_class_folders", "is_class_folders", "list_class_folders"]

_SYNSET = re.compile(r"n\d{8}")
_GRAY_MODES = ("1", "L", "LA")
_LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")


class ClassFolders(NamedTuple):
    """What was found: layout in words, class names, images in each part, problems."""

    layout: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    problems: list[Problem]


class ClassListing(NamedTuple):
    """What the folders hold, no file opened: layout in words, class names, the files of each class, problems."""

    layout: str
    classes: tuple[str, ...]
    parts: dict[str, dict[str, list[str]]]  # "train" and one for evaluation → class → names in its folder
    problems: list[Problem]


def is_class_folders(folder: Path) -> bool:
    """Whether the folder holds a folder train with folders in it."""
    return (folder / "train").is_dir() and any(path.is_dir() for path in (folder / "train").iterdir())


def list_class_folders(folder: Path) -> ClassListing:
    """The files of both parts by their names, as training reads all of them.

    Raises:
        DataError: there is no part for evaluation.
    """
    evaluation = next((part for part in ("test", "val") if (folder / part).is_dir()), None)
    if evaluation is None:
        raise DataError(f"{folder} has no folder test (or val): expected train/<class>/* and test/<class>/*")
    parts = {part: _classes(folder / part) for part in ("train", evaluation)}
    classes = parts["train"]
    imagenet = all(map(_SYNSET.fullmatch, classes))
    problems = list(_class_problems(folder, parts, evaluation, imagenet))
    files = {part: {name: _files(folder / part / name, problems) for name in names} for part, names in parts.items()}
    return ClassListing("ImageNet" if imagenet else "class folders", classes, files, problems)


def check_class_folders(folder: Path, *, full: bool = False, workers: int = 0) -> ClassFolders:
    """Looks at every file of both parts.

    Raises:
        DataError: there is no part for evaluation.
    """
    listing = list_class_folders(folder)
    counts, modes = {}, dict[Path, str]()
    for part, classes in listing.parts.items():
        paths = [folder / part / name / file for name, files in classes.items() for file in files]
        counts[part] = len(paths)
        answers = probe_each([Probe(path, full) for path in paths], workers)
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, Header):
                modes[path] = answer.mode
            else:
                listing.problems.append(answer)
    if listing.layout != "ImageNet":  # whose few gray photographs everyone turns into RGB
        listing.problems.extend(_mixed(modes))
    return ClassFolders(listing.layout, listing.classes, counts, listing.problems)


def _classes(part: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in part.iterdir() if path.is_dir() and path.name[0] != "."))


def _class_problems(
    folder: Path, parts: dict[str, tuple[str, ...]], evaluation: str, imagenet: bool
) -> Iterator[Problem]:
    for part in parts:
        if loose := list_images(folder / part):
            name = "<synset>" if imagenet else "<class>"
            reason = f"images lie here ({len(loose)}, such as {loose[0].name}): sort them into {part}/{name}/"
            yield Problem("misplaced", folder / part, reason)
    for here, there in (("train", evaluation), (evaluation, "train")):
        for name in sorted(set(parts[here]) - set(parts[there])):
            odd = "; it is no synset such as n01440764" if imagenet and not _SYNSET.fullmatch(name) else ""
            yield Problem("missing-class", folder / there / name, f"{here} has this class, {there} has not{odd}")


def _files(folder: Path, problems: list[Problem]) -> list[str]:
    with os.scandir(folder) as entries:  # tells folders from files without asking the disk again for each
        found = sorted((entry.name, entry.is_dir()) for entry in entries if _counts(entry.name))
    for name, _ in (entry for entry in found if entry[1]):
        problems.append(Problem("misplaced", folder / name, "a class folder holds images only, no folders"))
    files = [name for name, is_folder in found if not is_folder]
    if not files:
        problems.append(Problem("empty-class", folder, "there is no image in it"))
    return files


def _counts(name: str) -> bool:
    return name[0] != "." and name not in _LEFT_BY_SYSTEMS


def _mixed(modes: dict[Path, str]) -> Iterator[Problem]:
    gray = [path for path, mode in modes.items() if mode in _GRAY_MODES]
    colour = [path for path, mode in modes.items() if mode not in _GRAY_MODES]
    fewer, what = (gray, "grayscale among colour images") if len(gray) < len(colour) else (colour, "colour among gray")
    if gray and colour:
        for path in fewer:
            yield Problem("wrong-mode", path, f"it is {what}: convert all images to one of the two")
