"""A folder of images, ``train/<class>/*`` and ``test/<class>/*`` (or ``val``), read into one tensor."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from aconite.errors import DataError, MissingExtraError
from aconite.lab.data.classification import ImageData
from aconite.lab.data.hugging_face import data_name, open_hugging_face
from aconite.lab.data.stored_image import ImageFile, StoredImage

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["read_folder", "read_hugging_face"]

_GRAY_MODES, _COLOUR_MODES = ("1", "L", "LA"), ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # the EXIF tag that cameras set, and its values of a quarter turn
_LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini")


class _File(NamedTuple):
    path: ImageFile
    label: int
    size: tuple[int, int]  # height, width
    gray: bool


def read_folder(folder: Path, image_size: int | None) -> ImageData:
    """All images of a folder, decoded and upright as their EXIF data say; with ``image_size``, resized and cropped in
    the middle to that square.

    Raises:
        DataError: a split or class is missing or empty, the classes of train and test differ, a file is no image,
            sizes differ (and ``image_size`` is None), gray and colour are mixed, or memory would not hold it.
    """
    if not folder.is_dir():
        raise DataError(
            f"no data at {folder}: name digits, mnist5k or a folder that holds train/<class>/* and test/<class>/*"
        )
    train_folder, test_folder = folder / "train", folder / "test"
    if not test_folder.is_dir():
        test_folder = folder / "val"
    for split in (train_folder, test_folder):
        if not split.is_dir():
            wanted = "train" if split is train_folder else "test (or val)"
            raise DataError(f"{folder} has no folder {wanted}: expected train/<class>/* and test/<class>/*")
    classes = _classes(train_folder)
    _check_same_classes(classes, _classes(test_folder), train_folder, test_folder)
    train, test = (list(_files(split, classes)) for split in (train_folder, test_folder))
    return _read(str(folder), classes, train, test, image_size)


def read_hugging_face(data: str, image_size: int | None) -> ImageData:
    """The same from a data set of Hugging Face; see `aconite.lab.data.hugging_face`.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: it cannot be used as it is; also as of `read_folder`.
    """
    found = open_hugging_face(data)
    for problem in found.problems:
        raise DataError(f"{problem.path}: {problem.reason}; remove it, as by the filter of datasets")
    for part, images in found.parts.items():
        if not images:
            raise DataError(f"{data} has no image for {part}")
    train, test = (
        [_header(path, images.label(index)) for index, path in enumerate(images)] for images in found.parts.values()
    )
    return _read(data, found.classes, train, test, image_size)


def _read(
    data: str, classes: tuple[str, ...], train: list[_File], test: list[_File], image_size: int | None
) -> ImageData:
    size = _common_size(train + test) if image_size is None else (image_size, image_size)
    _check_one_kind(train + test)
    _check_memory(len(train) + len(test), 1 if train[0].gray else 3, size, data)
    return ImageData(
        name=data_name(data),
        classes=classes,
        train_images=_decode(train, size),
        train_labels=torch.tensor([file.label for file in train]),
        test_images=_decode(test, size),
        test_labels=torch.tensor([file.label for file in test]),
        flips=not train[0].gray,
    )


def _classes(split: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in split.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if len(names) < 2:
        found = f"only one class, {names[0]!r}" if names else "no class folder"
        raise DataError(f"{split} holds {found}: classification needs at least two class folders")
    return names


def _check_same_classes(train: Sequence[str], test: Sequence[str], train_folder: Path, test_folder: Path) -> None:
    for here, there, folder in ((train, test, test_folder), (test, train, train_folder)):
        if missing := sorted(set(here) - set(there)):
            raise DataError(
                f"{folder} lacks the class folder{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
                "train and test need the same classes"
            )


def _files(split: Path, classes: Sequence[str]) -> Iterator[_File]:
    for label, name in enumerate(classes):
        paths = sorted(path for path in (split / name).iterdir() if _counts(path))
        if not paths:
            raise DataError(f"the class folder {split / name} is empty: put images in it or remove the class")
        for path in paths:
            yield _header(path, label)


def _counts(path: Path) -> bool:
    return path.name[0] != "." and path.name not in _LEFT_BY_SYSTEMS


def _header(path: ImageFile, label: int) -> _File:
    with _open(path) as image:
        if image.mode not in _GRAY_MODES + _COLOUR_MODES:
            raise DataError(f"{path} holds pixels of the kind {image.mode!r}: save it with 8 bits a channel")
        size = (image.width, image.height) if _orientation(image) in _ON_ITS_SIDE else (image.height, image.width)
        return _File(path, label, size, image.mode in _GRAY_MODES)


def _orientation(image: Image) -> int:
    """How EXIF says that the stored pixels lie; 1 is upright, and what a file without a legible entry counts as."""
    if "exif" not in image.info:  # asking further would decode a PNG whole; TIFF's entry Pillow itself follows
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, struct.error):  # what Pillow raises at broken entries
        return 1


def _open(path: ImageFile) -> Image:
    try:
        from PIL import Image as pillow
    except ModuleNotFoundError as error:
        raise MissingExtraError("pillow", "lab") from error
    try:
        return pillow.open(path.open() if isinstance(path, StoredImage) else path)
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: ImageFile, error: Exception) -> DataError:
    if isinstance(path, Path) and path.is_dir():
        return DataError(f"{path} is a folder: a class folder holds images only")
    reason = getattr(error, "strerror", None) or str(error)
    return DataError(f"cannot read the image {path}: {reason.replace(f' {str(path)!r}', '')}; replace or remove it")


def _common_size(files: Sequence[_File]) -> tuple[int, int]:
    first = files[0]
    for file in files:
        if file.size != first.size:
            raise DataError(
                f"images differ in size: {first.path} is {first.size[1]}×{first.size[0]}, {file.path} is "
                f"{file.size[1]}×{file.size[0]}; pass --image-size to resize them all, such as --image-size 64"
            )
    if min(first.size) < 8:
        raise DataError(f"images are {first.size[1]}×{first.size[0]}: pass --image-size with 8 or more")
    return first.size


def _check_one_kind(files: Sequence[_File]) -> None:
    for file in files:
        if file.gray != files[0].gray:
            gray, colour = (file, files[0]) if file.gray else (files[0], file)
            raise DataError(
                f"grayscale and colour are mixed: {gray.path} is grayscale, {colour.path} is not; "
                "convert all of them to one of the two"
            )


def _check_memory(count: int, channels: int, size: tuple[int, int], data: str) -> None:
    needed, free = count * channels * size[0] * size[1], _free_memory()
    if needed > 0.8 * free:
        raise DataError(
            f"{data} needs {needed / 1e9:.1f} GB of memory as {count} images of {size[1]}×{size[0]}, and "
            f"{free / 1e9:.1f} GB is free: use a smaller --image-size or fewer images"
        )


def _free_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration):  # not Linux
        pass
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return float("inf")


def _decode(files: Sequence[_File], size: tuple[int, int]) -> Tensor:
    from PIL import Image, ImageOps

    mode = "L" if files[0].gray else "RGB"
    images = torch.empty((len(files), len(mode), *size), dtype=torch.uint8)
    for target, file in zip(images, files, strict=True):
        with _open(file.path) as image:
            try:
                upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
                pixels = upright.convert(mode)
            except (OSError, ValueError, SyntaxError, struct.error) as error:  # Pillow's decoders raise each of them
                raise _unreadable(file.path, error) from error
            if file.size != size:
                pixels = ImageOps.fit(pixels, (size[1], size[0]), Image.Resampling.BICUBIC)
        flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
        target.copy_(flat.view(*size, len(mode)).permute(2, 0, 1))
    return images
