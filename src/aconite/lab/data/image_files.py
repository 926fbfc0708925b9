"""Image and mask files: what their headers say, whether they are whole, and their pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from aconite.errors import MissingExtraError
from aconite.lab.data.problems import Problem
from aconite.lab.data.stored_image import ImageFile, StoredImage

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Header", "Probe", "list_images", "probe", "probe_all", "probe_each", "read_image", "read_mask"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_IMAGE_MODES = ("1", "L", "LA", "RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
_JPEG_END, _PNG_END = b"\xff\xd9", b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # the EXIF tag that cameras set, and its values of a quarter turn


class Header(NamedTuple):
    """What is known of a sound image file; ``values`` are a decoded mask's, in rising order."""

    size: tuple[int, int]  # height, width, as the pixels are stored
    mode: str
    byte_count: int
    on_its_side: bool = False  # EXIF says that the camera was turned by a quarter
    values: tuple[int, ...] | None = None


class Probe(NamedTuple):
    """A file to look at; ``decode`` reads its pixels, which finds damage in the middle and a mask's values."""

    path: ImageFile
    decode: bool = False
    mask: bool = False


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder by their endings, sorted; hidden ones are left out."""
    with os.scandir(folder) as entries:  # iterdir and is_file ask the disk again for each of a million files
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(_SUFFIXES))
    return [folder / name for name in names if name[0] != "."]


def probe(task: Probe) -> Header | Problem:
    """Opens one file: its header and its end, which a truncated JPEG or PNG lacks; all pixels only if asked for."""
    path = task.path
    try:
        with path.open("rb") as file, _open(file) as image:
            if image.mode not in (_MASK_MODES if task.mask else _IMAGE_MODES):
                wanted = "a mask needs one class index a pixel" if task.mask else "save it with 8 bits a channel"
                return Problem("wrong-mode", path, f"its pixels are {image.mode}: {wanted}")
            on_its_side = "exif" in image.info and image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
            size, mode, values = (image.height, image.width), image.mode, None
            if task.decode or not _ends_well(file, image.format):
                values = _decode(image, task.mask)
            byte_count = file.seek(0, os.SEEK_END)
        if task.decode and image.format == "PNG":  # decoding passes over the checksums
            with _open(path) as image:
                image.verify()
        return Header(size, mode, byte_count, on_its_side, values)
    except FileNotFoundError:
        return Problem("missing-file", path, "there is no such file")
    except (MemoryError, MissingExtraError):
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them into
        return _damaged(path, error)


def probe_all(tasks: Iterable[Probe], workers: int = 0) -> dict[ImageFile, Header | Problem]:
    """`probe` for many files, by several processes if asked for."""
    tasks = list({task.path: task for task in tasks}.values())
    return dict(zip((task.path for task in tasks), probe_each(tasks, workers), strict=True))


def probe_each(tasks: list[Probe], workers: int) -> Iterator[Header | Problem]:
    """The answers of `probe` in the order of the tasks."""
    if workers < 2:
        yield from map(probe, tasks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(probe, tasks, chunksize=64)


def read_image(path: ImageFile, *, upright: bool = False) -> Tensor:
    """The pixels as RGB, uint8 (3, H, W): as they are stored, in which boxes and masks count, or ``upright``, as EXIF
    tells.
    """
    import numpy as np

    with _open(path) as image:
        if upright and "exif" in image.info:
            from PIL import ImageOps

            image = ImageOps.exif_transpose(image)
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_mask(path: Path) -> Tensor:
    """The values of a mask, int64 (H, W); a palette's colours do not matter, its indices do."""
    import numpy as np

    with _open(path) as image:
        if image.mode not in _MASK_MODES:
            raise ValueError(f"its pixels are {image.mode}: a mask needs one class index a pixel")
        return torch.from_numpy(np.array(image).astype(np.int64))


def _open(file: ImageFile | IO[bytes]) -> Image:
    try:
        from PIL import Image as pillow
        from PIL import UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise MissingExtraError("pillow", "lab") from error
    try:
        return pillow.open(file.open() if isinstance(file, StoredImage) else file)
    except UnidentifiedImageError as error:
        raise ValueError("it is not an image of a known format") from error


def _decode(image: Image, mask: bool) -> tuple[int, ...] | None:
    image.load()
    if not mask:
        return None
    if image.mode in ("L", "P"):
        return tuple(value for value, count in enumerate(image.histogram()[:256]) if count)
    import numpy as np

    return tuple(np.unique(np.array(image)).tolist())


def _ends_well(file: IO[bytes], format: str | None) -> bool:
    """Whether the file has the end of its format; other formats than JPEG and PNG have none, and are decoded."""
    end = {"JPEG": _JPEG_END, "PNG": _PNG_END}.get(format or "")
    if end is None:
        return False
    place = file.tell()
    file.seek(-len(end), os.SEEK_END)
    found = file.read()
    file.seek(place)
    return found == end


def _damaged(path: ImageFile, error: Exception) -> Problem:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    cut = "truncated" in reason.lower()
    return Problem("truncated-image" if cut else "unreadable-image", path, reason)
