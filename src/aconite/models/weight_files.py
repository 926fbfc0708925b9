"""Files of weights, read without running anything in them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aconite.errors import AconiteError, CheckpointError, MissingExtraError

__all__ = ["read_weights"]


def read_weights(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """What a file of ``torch.save``, or one named ``*.safetensors``, holds; its tensors are on the CPU.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds other things than tensors by name.
        MissingExtraError: it is a safetensors file, and safetensors is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: give the path of a checkpoint, or a state dict")
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except AconiteError:
        raise
    except pickle.UnpicklingError as error:
        # torch says the same of a pickle that is damaged and of one that would build objects.
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors, which only its author's code can read: save "
            f"model.state_dict() alone ({_first_line(error)})"
        ) from error
    except Exception as error:  # each reader has a dozen kinds for bytes that make no sense
        raise CheckpointError(f"{path} is damaged or no file of weights ({_first_line(error)})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}: expected tensors by name, a state dict")
    return content


def _torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):  # torch keeps a CRC of each part there, and does not look at it
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise CheckpointError(f"{path} is damaged: the checksum of its part {broken} does not fit")
    return torch.load(path, map_location="cpu", weights_only=True)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtraError("safetensors", "vision") from error
    return load_file(path)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0].partition(". ")[0].rstrip(": ")
