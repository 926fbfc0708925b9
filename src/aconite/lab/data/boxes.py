"""Images with boxes as annotation files tell them, and what of it can be used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import sub
from pathlib import Path
from typing import Any, NamedTuple

from aconite.lab.data.image_files import Header, Probe, probe_all
from aconite.lab.data.problems import Problem

__all__ = ["Annotated", "BoxSource", "Boxed", "Object", "check_boxes", "hold_out"]

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels, from the image's upper left corner

_TOLERANCE = 1.0  # by how many pixels a box may leave the image: annotation tools round, and count from 0 or from 1
_HELD_OUT = 5  # of a data set without an evaluation part every fifth image is for evaluation


class Object(NamedTuple):
    """One object; ``crowd`` marks what evaluation neither asks for nor counts against (VOC: difficult).

    ``area`` is what the annotation says, in pixels (COCO: of the object's outline), by which objects count as small,
    medium or large; None for the box's.
    """

    name: str
    box: Box
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Annotated:
    """An image and its objects as an annotation file has them, unchecked."""

    image: Path
    source: Path  # the annotation file
    objects: tuple[Object, ...]
    size: tuple[int, int] | None = None  # height, width, if the annotation tells them


@dataclass(frozen=True)
class BoxSource:
    """A whole data set as read: layout in words, class names in the order of their labels, parts, problems so far."""

    layout: str
    classes: tuple[str, ...]
    parts: dict[str, list[Annotated]]  # "train" and one for evaluation
    problems: list[Problem] = field(default_factory=list)


class Boxed(NamedTuple):
    """An image that can be used: its boxes lie inside it, and labels count from 1 (0 is the background)."""

    image: Path
    header: Header
    boxes: list[Box]
    labels: list[int]
    crowds: list[bool]
    areas: list[float]


def check_boxes(
    source: BoxSource, *, allow_empty: bool, full: bool = False, workers: int = 0
) -> tuple[dict[str, list[Boxed]], list[Problem]]:
    """What can be used of each part, and all problems.

    Only the smallest thing that is wrong is left out: a box, or an image if it has a problem itself. A box that
    leaves the image is cut at its edge. An image without objects is left out of training and kept for evaluation,
    where a box found in it is a mistake that counts. Crowds are kept for evaluation only.
    """
    labels = {name: number for number, name in enumerate(source.classes, 1)}
    files = [Probe(item.image, full) for items in source.parts.values() for item in items]
    headers = probe_all(files, workers)
    problems, parts = list(source.problems), {}
    for part, items in source.parts.items():
        usable = parts[part] = list[Boxed]()
        for item in items:
            header = headers[item.image]
            if isinstance(header, Problem):
                problems.append(header)
                continue
            if item.size not in (None, header.size):
                problems.append(_other_size(item, header))
                continue
            objects = _sound_objects(item, header.size, labels, problems)
            if not item.objects and not allow_empty:
                problems.append(Problem("empty-annotation", item.image, f"{item.source.name} has no object for it"))
            if part == "train":
                objects = [entry for entry in objects if not entry[2]]
            if objects or (not item.objects and (allow_empty or part != "train")):
                columns: Any = ([entry[k] for entry in objects] for k in range(4))
                usable.append(Boxed(item.image, header, *columns))
    return parts, problems


def hold_out(items: Sequence[Annotated]) -> dict[str, list[Annotated]]:
    """A data set of one part as two: every fifth image, in the order of the names, is for evaluation."""
    ordered = sorted(items, key=lambda item: item.image)
    held_out = ordered[_HELD_OUT - 1 :: _HELD_OUT]
    kept = [item for number, item in enumerate(ordered) if number % _HELD_OUT != _HELD_OUT - 1]
    return {"train": kept, "val": held_out}


def _other_size(item: Annotated, header: Header) -> Problem:
    assert item.size is not None
    turned = "; EXIF turns it: save it upright" if header.on_its_side and item.size == header.size[::-1] else ""
    reason = f"it is {_times(header.size)}, {item.source.name} says {_times(item.size)}{turned}"
    return Problem("size-mismatch", item.image, reason)


def _sound_objects(
    item: Annotated, size: tuple[int, int], labels: dict[str, int], problems: list[Problem]
) -> list[tuple[Box, int, bool, float]]:
    sound = []
    for number, (name, box, crowd, area) in enumerate(item.objects, 1):
        inside = _cut(box, size)
        if fault := _fault(name, box, inside, size, labels):
            kind, reason = fault
            problems.append(Problem(kind, item.source, f"{item.image.name}, object {number} ({name}): {reason}"))
            if kind != "box-outside" or not _has_area(inside):
                continue
        own = (inside[2] - inside[0]) * (inside[3] - inside[1])
        sound.append((inside, labels[name], crowd, own if area is None else area))
    return sound


def _fault(name: str, box: Box, inside: Box, size: tuple[int, int], labels: dict[str, int]) -> tuple[str, str] | None:
    if name not in labels:
        return "unknown-class", f"not one of {', '.join(labels)}"
    if not all(map(math.isfinite, box)):
        return "broken-annotation", f"its box is {_corners(box)}"
    if not _has_area(box):
        return "degenerate-box", f"{_corners(box)} is at most one pixel wide or high"
    if inside != box and (max(map(abs, map(sub, box, inside))) > _TOLERANCE or not _has_area(inside)):
        return "box-outside", f"{_corners(box)} leaves the image of {_times(size)}"
    return None


def _has_area(box: Box) -> bool:
    return box[2] - box[0] > 1 and box[3] - box[1] > 1


def _cut(box: Box, size: tuple[int, int]) -> Box:
    height, width = size
    left, right = (min(max(value, 0.0), float(width)) for value in (box[0], box[2]))
    top, bottom = (min(max(value, 0.0), float(height)) for value in (box[1], box[3]))
    return left, top, right, bottom


def _corners(box: Box) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def _times(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
