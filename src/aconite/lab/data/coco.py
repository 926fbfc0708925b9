"""COCO: ``annotations/instances_*.json`` and folders of images, and the plainer forms that tools export."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aconite.errors import DataError
from aconite.lab.data.boxes import Annotated, BoxSource, Object, hold_out
from aconite.lab.data.image_files import list_images
from aconite.lab.data.problems import Problem

__all__ = ["is_coco", "read_coco"]

_EVALUATION = ("val", "test")  # "valid" and "validation" begin with the first


def is_coco(folder: Path) -> bool:
    """Whether the folder holds a JSON file in annotations/, or elsewhere one of COCO's form."""
    files = _json_files(folder)
    return bool(files) and (files[0].parent == folder / "annotations" or any(map(_has_form, files)))


def read_coco(folder: Path) -> BoxSource:
    """Every JSON file's images; the classes are the training file's categories in the order of their numbers.

    The part is found in the JSON file's name or its folder's: train, val, test. One file alone is divided, every fifth
    image for evaluation.

    Raises:
        DataError: a file is no JSON of COCO's form, or it cannot be told which one is for training.
    """
    files = _parts(folder)
    contents = {part: _load(path) for part, path in files.items()}
    classes = tuple(name for _, name in sorted(_categories(files["train"], contents["train"]).items()))
    problems: list[Problem] = []
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        problems.append(Problem("duplicate-name", files["train"], f"several categories are called {', '.join(twice)}"))
        classes = tuple(dict.fromkeys(classes))
    parts = {part: _read(folder, files[part], content, problems) for part, content in contents.items()}
    used: dict[Path, Path] = {}  # image → the JSON file that has it
    for items in parts.values():
        for item in items:
            if used.setdefault(item.image, item.source) != item.source:
                reason = f"{item.image.name} is in {used[item.image].name} already"
                problems.append(Problem("duplicate-name", item.source, reason))
    for place in sorted({path.parent for path in used}):
        for path in list_images(place) if place.is_dir() else ():
            if path not in used:
                names = " and ".join(file.name for file in files.values())
                problems.append(Problem("no-annotation", path, f"it is not in {names}"))
    return BoxSource("COCO", classes, hold_out(parts["train"]) if len(parts) == 1 else parts, problems)


def _json_files(folder: Path) -> list[Path]:
    for pattern in ("annotations/instances_*.json", "annotations/*.json", "*.json", "*/*.json"):
        if found := sorted(path for path in folder.glob(pattern) if path.name[0] != "."):
            return found
    return []


def _parts(folder: Path) -> dict[str, Path]:
    files = _json_files(folder)
    if len(files) == 1:
        return {"train": files[0]}
    named = {word: [path for path in files if word in _part_name(path, folder)] for word in ("train", *_EVALUATION)}
    train, evaluation = named["train"], next((named[word] for word in _EVALUATION if named[word]), [])
    if len(train) != 1 or len(evaluation) != 1:
        names = ", ".join(path.name for path in files)
        raise DataError(f"{folder} needs one JSON file with train and one with val in its name; it has {names}")
    return {"train": train[0], next(word for word in _EVALUATION if named[word]): evaluation[0]}


def _part_name(path: Path, folder: Path) -> str:
    return path.stem.lower() if path.parent.parent != folder else f"{path.parent.name} {path.stem}".lower()


def _has_form(path: Path) -> bool:
    try:
        _load(path)
    except DataError:
        return False
    return True


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON file: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise DataError(f"{path} is not of COCO's form: it needs the lists images, annotations and categories")
    return content


def _categories(path: Path, content: dict[str, Any]) -> dict[Any, str]:
    try:
        return {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    except (KeyError, TypeError):
        raise DataError(f"{path} has a category that lacks id or name") from None


def _read(folder: Path, path: Path, content: dict[str, Any], problems: list[Problem]) -> list[Annotated]:
    images = _images(path, content["images"], problems)
    objects = _objects(path, content, images, problems)
    place = _image_folder(folder, path, (entry["file_name"] for entry in images.values()))
    return [
        Annotated(place / entry["file_name"], path, tuple(objects[number]), _size(entry))
        for number, entry in images.items()
    ]


def _images(path: Path, entries: list[Any], problems: list[Problem]) -> dict[Any, dict[str, Any]]:
    images: dict[Any, dict[str, Any]] = {}
    names: set[str] = set()
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            problems.append(Problem("broken-annotation", path, f"images[{position}] lacks id or file_name"))
        elif entry["id"] in images or entry["file_name"] in names:
            what = f"the image {entry['file_name']} (id {entry['id']})"
            problems.append(Problem("duplicate-name", path, f"{what} has a name or id that stands there already"))
        else:
            names.add(entry["file_name"])
            images[entry["id"]] = entry
    return images


def _objects(
    path: Path, content: dict[str, Any], images: dict[Any, dict[str, Any]], problems: list[Problem]
) -> defaultdict[Any, list[Object]]:
    objects: defaultdict[Any, list[Object]] = defaultdict(list)
    categories = _categories(path, content)
    for position, entry in enumerate(content["annotations"]):
        try:
            left, top, width, height = map(float, entry["bbox"])
            image, category = entry["image_id"], entry["category_id"]
        except (KeyError, TypeError, ValueError):
            reason = f"annotations[{position}] lacks image_id, category_id or a bbox of four numbers"
            problems.append(Problem("broken-annotation", path, reason))
            continue
        if image not in images:
            reason = f"annotations[{position}] belongs to the image {image}, which is not in images"
            problems.append(Problem("missing-file", path, reason))
            continue
        name = categories.get(category, f"category {category}")
        box = (left, top, left + width, top + height)
        area = entry.get("area")
        told = float(area) if isinstance(area, int | float) and area > 0 else None
        objects[image].append(Object(name, box, bool(entry.get("iscrowd", 0)), told))
    return objects


def _image_folder(folder: Path, path: Path, names: Iterable[str]) -> Path:
    """The folder that holds the images of a JSON file: the first where one of a few of them lies."""
    part = path.stem.removeprefix("instances_")
    places = [folder / part, folder / "images" / part, folder / "images", path.parent / "images", path.parent, folder]
    some = [name for name, _ in zip(names, range(20), strict=False)]
    found = (place for place in places if any((place / name).is_file() for name in some))
    return next(found, next((place for place in places if place.is_dir()), folder))


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    return (int(height), int(width)) if height and width else None
