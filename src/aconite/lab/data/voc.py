"""Pascal VOC: ``Annotations/*.xml``, ``JPEGImages/*``, ``ImageSets/Main/{train,val}.txt``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from aconite.errors import DataError
from aconite.lab.data.boxes import Annotated, BoxSource, Object
from aconite.lab.data.class_names import read_class_names
from aconite.lab.data.image_files import list_images
from aconite.lab.data.problems import Problem

__all__ = ["is_voc", "read_voc"]

_LISTS = (("train", "val"), ("train", "test"), ("trainval", "test"))  # what is trained on, what is evaluated on


def is_voc(folder: Path) -> bool:
    """Whether the folder is laid out as Pascal VOC."""
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


def read_voc(folder: Path) -> BoxSource:
    """Lists and annotations; the classes are classes.txt's, or else the names in the training part, sorted.

    VOC counts pixels from 1 and a box ends with its last pixel, so that (1, 1, 2, 2) covers 2×2 pixels: (0, 0, 2, 2).

    Raises:
        DataError: the lists of images are missing.
    """
    problems: list[Problem] = []
    images = _by_stem(folder / "JPEGImages", problems)
    seen: dict[str, str] = {}
    parts: dict[str, list[Annotated]] = {}
    for part in _parts(folder):
        parts["train" if part == "trainval" else part] = _read_list(folder, part, images, seen, problems)
    annotated = {path.stem for path in (folder / "Annotations").glob("*.xml")}
    for stem in sorted(images.keys() - annotated - seen.keys()):
        problems.append(Problem("no-annotation", images[stem], f"there is no Annotations/{stem}.xml"))
    classes = read_class_names(folder) or tuple(sorted({box.name for item in parts["train"] for box in item.objects}))
    return BoxSource("Pascal VOC", classes, parts, problems)


def _by_stem(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in list_images(folder):
        if (first := images.setdefault(path.stem, path)) != path:
            problems.append(Problem("duplicate-name", path, f"{first.name} has the same name"))
    return images


def _parts(folder: Path) -> tuple[str, str]:
    lists = folder / "ImageSets" / "Main"
    for parts in _LISTS:
        if all((lists / f"{part}.txt").is_file() for part in parts):
            return parts
    raise DataError(f"{lists} needs train.txt and val.txt (or test.txt), which list images, one name a line")


def _read_list(
    folder: Path, part: str, images: dict[str, Path], seen: dict[str, str], problems: list[Problem]
) -> list[Annotated]:
    items, source = [], folder / "ImageSets" / "Main" / f"{part}.txt"
    for line in source.read_text("utf-8").splitlines():
        if not (stem := line.strip()):
            continue
        if stem in seen:
            problems.append(Problem("duplicate-name", source, f"{stem} is listed in {seen[stem]} already"))
            continue
        seen[stem] = source.name
        image, annotation = images.get(stem), folder / "Annotations" / f"{stem}.xml"
        if image is None:
            where = folder / "JPEGImages" / f"{stem}.jpg"
            problems.append(Problem("missing-file", where, f"{source.name} lists it, and there is no such image"))
        elif not annotation.is_file():
            problems.append(Problem("no-annotation", image, f"{source.name} lists it, but not Annotations/{stem}.xml"))
        else:
            try:
                items.append(_parse(image, annotation))
            except (ElementTree.ParseError, ValueError) as error:
                problems.append(Problem("broken-annotation", annotation, str(error)))
    return items


def _parse(image: Path, annotation: Path) -> Annotated:
    tree = ElementTree.parse(annotation).getroot()
    objects = []
    for number, entry in enumerate(tree.iter("object"), 1):
        name, box = (entry.findtext("name") or "").strip(), entry.find("bndbox")
        if not name or box is None:
            raise ValueError(f"object {number} has no {'bndbox' if name else 'name'}")
        left, top, right, bottom = (_number(box, side, number) for side in ("xmin", "ymin", "xmax", "ymax"))
        difficult = (entry.findtext("difficult") or "0").strip() == "1"
        objects.append(Object(name, (left - 1, top - 1, right, bottom), difficult))
    return Annotated(image, annotation, tuple(objects), _size(tree))


def _number(box: ElementTree.Element, side: str, number: int) -> float:
    try:
        return float(box.findtext(side) or "")
    except ValueError:
        raise ValueError(f"object {number} has {side} {box.findtext(side)!r}: it must be a number") from None


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    height, width = (tree.findtext(f"size/{side}") for side in ("height", "width"))
    size = int(float(height or 0)), int(float(width or 0))
    return size if all(size) else None  # some tools leave the size out, or 0
