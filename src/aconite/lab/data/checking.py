"""`aconite check-data`: which kind of data set a folder is, and everything that is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aconite.errors import DataError, UnknownNameError
from aconite.lab.data.boxes import check_boxes
from aconite.lab.data.cityscapes import is_cityscapes, read_cityscapes
from aconite.lab.data.class_folders import check_class_folders, is_class_folders
from aconite.lab.data.coco import is_coco, read_coco
from aconite.lab.data.hugging_face import LAYOUT, check_hugging_face, is_hugging_face, open_hugging_face
from aconite.lab.data.masks import IGNORED, check_masks, is_masks, read_masks
from aconite.lab.data.problems import KINDS, Problem, check_there, count_kinds, shown
from aconite.lab.data.voc import is_voc, read_voc

__all__ = ["CheckedData", "check_data", "find_task"]

_LAYOUTS: dict[str, dict[Callable[[Path], bool], str]] = {  # in the order of asking: train/images is no class folder
    "detection": {
        is_voc: "Annotations/*.xml, JPEGImages/* and ImageSets/Main/{train,val}.txt (Pascal VOC)",
        is_coco: "annotations/instances_*.json and folders of images, or images/ and a JSON file (COCO)",
    },
    "segmentation": {
        is_cityscapes: "leftImg8bit/<part>/<city>/* and gtFine/<part>/<city>/* (Cityscapes)",
        is_masks: "train/images/*, train/masks/*, val/images/*, val/masks/*",
    },
    "classification": {
        is_class_folders: "train/<class>/* and test/<class>/* (or val)",
        is_hugging_face: "hf:NAME (Hugging Face)",
    },
}


@dataclass(frozen=True)
class CheckedData:
    """What `check_data` found.

    Attributes:
        folder: the data set.
        task: "classification", "detection" or "segmentation".
        layout: what the folder is laid out as, in words.
        classes: their names, in the order of the labels.
        parts: for each part what can be used of it, such as ``{"train": {"images": 80, "boxes": 1200}}``.
        problems: everything that is wrong.
    """

    folder: Path
    task: str
    layout: str
    classes: tuple[str, ...]
    parts: dict[str, dict[str, int]]
    problems: tuple[Problem, ...]

    def text(self) -> str:
        """The report for a person: what it is, each problem below its kind, and the counts at the end."""
        names = ", ".join(self.classes[:10]) + (", …" if len(self.classes) > 10 else "")
        count = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
        lines = [f"{self.folder}: {self.task}, {self.layout}; {count}: {names}"]
        lines += [
            f"  {part}: {', '.join(f'{n} {what}' for what, n in has.items())}" for part, has in self.parts.items()
        ]
        counts = count_kinds(self.problems)
        for kind in counts:
            lines += ["", KINDS[kind]]
            told = [problem for problem in self.problems if problem.kind == kind]
            lines += [f"  {shown(problem.path, self.folder)}: {problem.reason}" for problem in told]
        total = len(self.problems)
        summary = ", ".join(f"{n}× {KINDS[kind]}" for kind, n in counts.items())
        lines += ["", f"{total} problem{'s' * (total != 1)}: {summary}" if total else "no problems"]
        return "\n".join(lines)

    def json(self) -> str:
        """The same for a program; every problem has kind, file and reason."""
        problems = [
            {"kind": problem.kind, "file": shown(problem.path, self.folder), "reason": problem.reason}
            for problem in self.problems
        ]
        record: dict[str, Any] = {
            "task": self.task,
            "layout": self.layout,
            "classes": self.classes,
            "parts": self.parts,
            "counts": count_kinds(self.problems),
            "problems": problems,
        }
        return json.dumps(record, indent=1, ensure_ascii=False)


def find_task(folder: str | Path) -> str:
    """The task that a folder's layout is for.

    Raises:
        DataError: there is no such folder, or its layout is none of those known; the message lists them.
    """
    return _found(Path(folder), tuple(_LAYOUTS))[0]


def check_data(
    folder: str | Path,
    task: str | None = None,
    *,
    full: bool = False,
    allow_empty: bool = False,
    ignore_index: int = IGNORED,
    workers: int = 0,
) -> CheckedData:
    """Looks at every file of a data set and tells everything that is wrong; changes nothing.

    Of an image only the header and the end of the file are read, which shows whether it is whole; masks of image and
    mask folders are decoded, as nothing else tells their values.

    Args:
        folder: of any layout that is known, or hf:NAME.
        task: "classification", "detection" or "segmentation"; None to find it from the layout.
        full: decode every image, which finds damage in the middle of a file.
        allow_empty: an image without objects is in order (detection).
        ignore_index: the value of a mask's pixels that belong to no class (segmentation).
        workers: how many processes share the work; 0 for none beside this one.

    Raises:
        DataError: the folder is not a data set of this task.
        UnknownNameError: no such task.

    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("train/cat", "train/dog", "test/cat"):
    ...     (folder / name).mkdir(parents=True)
    ...     Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    >>> [problem.reason for problem in check_data(folder).problems]
    ['train has this class, test has not']
    """
    folder = Path(folder)
    if task is not None and task not in _LAYOUTS:
        raise UnknownNameError("task", task, _LAYOUTS)
    task, fits = _found(folder, tuple(_LAYOUTS) if task is None else (task,))
    parts: dict[str, dict[str, int]]
    if task == "detection":
        boxes = (read_voc if fits is is_voc else read_coco)(folder)
        usable, problems = check_boxes(boxes, allow_empty=allow_empty, full=full, workers=workers)
        parts = {
            part: {"images": len(items), "boxes": sum(len(item.labels) for item in items)}
            for part, items in usable.items()
        }
        return CheckedData(folder, task, boxes.layout, boxes.classes, parts, tuple(problems))
    if task == "segmentation":
        plain = fits is is_masks
        masks = read_masks(folder, ignore_index) if plain else read_cityscapes(folder)
        names, pairs, problems = check_masks(masks, decode_masks=plain, full=full, workers=workers)
        parts = {part: {"images": len(items)} for part, items in pairs.items()}
        return CheckedData(folder, task, masks.layout, names, parts, tuple(problems))
    if fits is is_hugging_face:
        stored = open_hugging_face(str(folder))
        parts = {part: {"images": len(images)} for part, images in stored.parts.items()}
        told = check_hugging_face(stored, full=full, workers=workers)
        return CheckedData(folder, task, LAYOUT, stored.classes, parts, tuple(told))
    found = check_class_folders(folder, full=full, workers=workers)
    parts = {part: {"images": count} for part, count in found.counts.items()}
    return CheckedData(folder, task, found.layout, found.classes, parts, tuple(found.problems))


def _found(folder: Path, tasks: tuple[str, ...]) -> tuple[str, Callable[[Path], bool]]:
    """The first of the tasks that the folder's layout is for, and what recognised it."""
    if not is_hugging_face(folder):
        check_there(folder)
    for task in tasks:
        for fits in _LAYOUTS[task]:
            if fits(folder):
                return task, fits
    layouts = "; ".join(words for task in tasks for words in _LAYOUTS[task].values())
    raise DataError(f"{folder} is not a data set{f' for {tasks[0]}' * (len(tasks) == 1)}: expected {layouts}")
