"""Shows images to a trained network, and writes what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aconite.errors import DataError, SettingsError
from aconite.lab.data.image_files import list_images, read_image
from aconite.lab.data.problems import Problem
from aconite.lab.runs.finished import load_run
from aconite.lab.runs.kinds.drawing import mask_png, png
from aconite.whole_file import write_whole

__all__ = ["Predictions", "predict"]


@dataclass(frozen=True)
class Predictions:
    """What was written: the folder, how many images were predicted, and those that could not be read."""

    folder: Path
    images: int
    unreadable: tuple[Problem, ...]


def predict(
    folder: Path | str,
    images: Sequence[Path | str],
    out: Path | str,
    *,
    checkpoint: Path | str | None = None,
    threshold: float = 0.5,
    pictures: bool = True,
    device: str = "auto",
    tell: Callable[[str], None] = print,
) -> Predictions:
    """What a run's network finds in images: ``predictions.jsonl`` in ``out`` has a line for each; ``pictures/`` the
    image of each with what was found in it; ``masks/``, of a segmentation, the class of each pixel, as a PNG whose
    values are the classes' numbers and whose palette are their colours.

    Args:
        folder: what `train` wrote.
        images: files, or folders of them, with the folders within.
        out: a folder; files of an earlier prediction with the same names are replaced.
        checkpoint: another state than the finished one; see `load_run`.
        threshold: least score of a box that is kept.
        pictures: whether to write them.
        device: see `load_run`.
        tell: see `load_run`.

    Raises:
        CheckpointError: see `load_run`.
        SettingsError: see `load_run`; the threshold is not from 0 to 1.
        DataError: there is no such file or folder, or no image in it.
    """
    if not 0 <= threshold <= 1:
        raise SettingsError(f"threshold is {threshold}: it must be from 0 to 1")
    out = Path(out)
    named = _named([Path(image) for image in images], out)
    trained = load_run(folder, checkpoint, device=device, tell=tell)
    records, unreadable = list[dict[str, Any]](), list[Problem]()
    for name, path in named.items():
        try:
            image = read_image(path, upright=trained.kind.upright)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them into
            unreadable.append(Problem("unreadable-image", path, str(error) or type(error).__name__))
            continue
        with torch.inference_mode():
            found = trained.kind.predict(trained.network, trained.settings, trained.classes, image).above(threshold)
        record = {"image": path.as_posix(), **found.record()}
        if pictures:
            record["picture"] = f"pictures/{name}.png"
            write_whole(out / record["picture"], png(found.picture(image)))
        if found.mask is not None:
            record["mask"] = f"masks/{name}.png"
            write_whole(out / record["mask"], mask_png(found.mask, len(trained.classes)))
        records.append(record)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_whole(out / "predictions.jsonl", lines.encode())
    return Predictions(out, len(records), tuple(unreadable))


def _named(images: Sequence[Path], out: Path) -> dict[str, Path]:
    """The image files by a name for each that no other has: its path below the folder that was named, no ending."""
    named: dict[str, Path] = {}
    for given in images:
        if not given.exists():
            raise DataError(f"there is no {given}: name image files, or folders of them")
        found = list(_walk(given, out.resolve())) if given.is_dir() else [given]
        if not found:
            raise DataError(f"{given} holds no image")
        for path in found:
            name = (path.relative_to(given) if given.is_dir() else Path(path.name)).with_suffix("").as_posix()
            several = 1
            while (free := name if several == 1 else f"{name}-{several}") in named:
                several += 1
            named[free] = path
    return named


def _walk(folder: Path, out: Path) -> Iterator[Path]:
    """The images of a folder and those within, in order, but for what an earlier prediction has written."""
    if folder.resolve() == out:
        return
    yield from list_images(folder)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        yield from _walk(inner, out)
