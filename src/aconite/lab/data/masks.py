"""Images with masks: ``train/images/*``, ``train/masks/*.png``, and ``val`` likewise; a class index in each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aconite.errors import DataError, SettingsError
from aconite.lab.data.class_names import read_class_names
from aconite.lab.data.image_files import Header, Probe, list_images, probe_all
from aconite.lab.data.problems import Problem

__all__ = ["IGNORED", "MaskSource", "Masked", "check_masks", "is_masks", "read_masks"]

IGNORED = 255  # in every target, whatever value the files mark it with
_EVALUATION = ("val", "valid", "test")


class Masked(NamedTuple):
    """An image and its mask, unchecked."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class MaskSource:
    """A whole data set as read.

    ``table`` (256,) int64 turns a file's value into a label, IGNORED, or −1 for what is no class. ``names`` is None
    where only the masks tell how many classes there are.
    """

    layout: str
    names: tuple[str, ...] | None
    table: Tensor
    parts: dict[str, list[Masked]]
    problems: list[Problem] = field(default_factory=list)


def is_masks(folder: Path) -> bool:
    """Whether the folder holds train/images and train/masks."""
    return all((folder / "train" / name).is_dir() for name in ("images", "masks"))


def read_masks(folder: Path, ignore_index: int = IGNORED) -> MaskSource:
    """Pairs of image and mask by name; the classes' names are classes.txt's, if there is one.

    Raises:
        DataError: there is no part for evaluation.
        SettingsError: ``ignore_index`` is no value of a mask's pixel.
    """
    if not 0 <= ignore_index <= 255:
        raise SettingsError(f"ignore_index is {ignore_index}: it is a value in the masks, from 0 to 255")
    evaluation = next((part for part in _EVALUATION if (folder / part / "images").is_dir()), None)
    if evaluation is None:
        raise DataError(f"{folder} has no val/images and val/masks (or test/…): segmentation needs a part to evaluate")
    names, problems = read_class_names(folder), list[Problem]()
    if names is not None and len(names) > IGNORED:
        raise DataError(f"{folder / 'classes.txt'} names {len(names)} classes: at most {IGNORED} are possible")
    table = torch.arange(256) if names is None else _table(len(names))
    table[ignore_index] = IGNORED
    parts = {part: list(_pairs(folder / part, problems)) for part in ("train", evaluation)}
    return MaskSource("image and mask folders", names, table, parts, problems)


def _table(classes: int) -> Tensor:
    return torch.arange(256).where(torch.arange(256) < classes, -1)


def _pairs(folder: Path, problems: list[Problem]) -> Iterator[Masked]:
    place = folder / "masks"
    masks = {path.stem: path for path in (list_images(place) if place.is_dir() else ())}
    seen: dict[str, Path] = {}
    for image in list_images(folder / "images"):
        if image.stem in seen:
            reason = f"{seen[image.stem].name} has the same name, and both would have the same mask"
            problems.append(Problem("duplicate-name", image, reason))
        elif image.stem not in masks:
            problems.append(Problem("no-annotation", image, f"there is no masks/{image.stem}.png"))
        else:
            yield Masked(image, masks[image.stem])
        seen[image.stem] = image
    for stem in masks.keys() - seen.keys():
        problems.append(Problem("missing-file", masks[stem], "there is a mask, but no image of that name"))


def check_masks(
    source: MaskSource, *, decode_masks: bool, full: bool = False, workers: int = 0
) -> tuple[tuple[str, ...], dict[str, list[tuple[Masked, Header]]], list[Problem]]:
    """The classes' names, what can be used of each part, and all problems.

    Values beyond the classes leave the image in use: their pixels are ignored. Without names the training masks are
    decoded to see how many classes there are.
    """
    decode = decode_masks or full or source.names is None
    pairs = [pair for items in source.parts.values() for pair in items]
    headers = probe_all([Probe(pair.image, full) for pair in pairs], workers)
    mask_headers = probe_all([Probe(pair.mask, decode, mask=True) for pair in pairs], workers)
    names, table = source.names, source.table
    if names is None:
        found = [mask_headers[pair.mask] for pair in source.parts["train"]]
        values = {value for header in found if isinstance(header, Header) for value in header.values or ()}
        labels = [value for value in values if value < 256 and table[value] != IGNORED]
        names = tuple(map(str, range(max(labels, default=-1) + 1)))
        table[(table >= len(names)) & (table != IGNORED)] = -1
    problems, parts = list(source.problems), {}
    for part, items in source.parts.items():
        usable = parts[part] = list[tuple[Masked, Header]]()
        for pair in items:
            image, mask = headers[pair.image], mask_headers[pair.mask]
            if isinstance(image, Problem) or isinstance(mask, Problem):
                problems += [header for header in (image, mask) if isinstance(header, Problem)]
            elif image.size != mask.size:
                sizes = [f"{size[1]}×{size[0]}" for size in (mask.size, image.size)]
                problems.append(Problem("size-mismatch", pair.mask, f"it is {sizes[0]}, the image {sizes[1]}"))
            else:
                problems += _value_problems(pair.mask, mask.values, table, len(names))
                if part != "train" or mask.values is None or _has_labels(mask.values, table):
                    usable.append((pair, image))
    return names, parts, problems


def _value_problems(path: Path, values: tuple[int, ...] | None, table: Tensor, classes: int) -> Iterator[Problem]:
    if values is None:
        return
    if beyond := [value for value in values if not 0 <= value < 256 or table[value] < 0]:
        shown = ", ".join(map(str, beyond[:5])) + (" …" if len(beyond) > 5 else "")
        ignored = f"{(table == IGNORED).nonzero().flatten().tolist()} is ignored"
        yield Problem("mask-value", path, f"it holds {shown}; there are {classes} classes, from 0, and {ignored}")
    elif not _has_labels(values, table):
        yield Problem("empty-annotation", path, "all of its pixels are ignored")


def _has_labels(values: tuple[int, ...], table: Tensor) -> bool:
    return any(0 <= value < 256 and 0 <= table[value] < IGNORED for value in values)
