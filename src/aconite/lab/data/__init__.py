"""Data sets by name or folder."""

from __future__ import annotations

from pathlib import Path

from aconite.errors import SettingsError
from aconite.lab.data.checking import CheckedData, check_data, find_task
from aconite.lab.data.classification import ImageData, evaluation_batches, shift_and_flip, training_batches
from aconite.lab.data.embedded import digits, mnist5k
from aconite.lab.data.folder import read_folder, read_hugging_face
from aconite.lab.data.hugging_face import data_name, is_hugging_face

__all__ = [
    "CheckedData",
    "ImageData",
    "check_data",
    "data_name",
    "evaluation_batches",
    "find_task",
    "is_hugging_face",
    "load",
    "shift_and_flip",
    "training_batches",
]

_EMBEDDED = {"digits": digits, "mnist5k": mnist5k}


def load(data: str, image_size: int | None = None) -> ImageData:
    """The data set that ``data`` names: "digits", "mnist5k", the path of a folder of images, or "hf:" and the folder or
    name of a data set of Hugging Face.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the folder does not exist or cannot be used as it is; the message names the file.
        SettingsError: ``image_size`` with an embedded data set, whose images have their size.
    """
    if (embedded := _EMBEDDED.get(data)) is None:
        return read_hugging_face(data, image_size) if is_hugging_face(data) else read_folder(Path(data), image_size)
    images = embedded()
    if image_size not in (None, images.image_size[0]):
        raise SettingsError(f"the images of {data} are {images.image_size[0]} pixels wide: leave image_size away")
    return images
