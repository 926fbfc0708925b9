"""A model that one word names, of this library or of the user's own code, and a file of weights for it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from aconite.errors import SettingsError, StateDictError
from aconite.lab.data import ImageData
from aconite.models import create, list_models, load_reference, read_weights, stem_for

__all__ = ["is_network", "named_model", "with_weights"]

_OPTIONS = ("activation", "stem", "init", "se", "num_classes", "in_channels")
_PREFIXES = ("", "network.", "model.", "module.")  # as they are; what Lightning and DataParallel put before


def is_network(name: str) -> bool:
    """Whether it begins with a network of `create`."""
    return name.partition(":")[0] in list_models()


def named_model(name: str, data: ImageData) -> nn.Module:
    """``network:option=value,…`` of `create`, fitted to the data where an option is missing, or
    ``package.module:name`` of a module or of a function that returns one.

    Raises:
        SettingsError: there is no such option or object, or it is no module.
    """
    return _created(name, data) if is_network(name) else _imported(name)


def with_weights(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """The model with the weights of a file of ``torch.save`` or safetensors, from which nothing but tensors is read.

    They stand there by the model's own names, or by those of the public reference code.

    Raises:
        CheckpointError: the file is missing or damaged.
        StateDictError: it is of another model.
    """
    content = read_weights(path)
    state = _tensors(content.get("state_dict", content))
    own = model.state_dict().keys()
    for prefix in _PREFIXES:
        if all(prefix + key in state for key in own):
            try:
                model.load_state_dict({key: state[prefix + key] for key in own})
            except RuntimeError as error:  # its first line is a heading
                raise StateDictError(f"{path} is of another model: {str(error).splitlines()[-1].strip()}") from None
            return model
    try:
        return load_reference(model, content)
    except SettingsError:  # none of the reference code's
        missing = next(key for key in own if key not in state)
        raise StateDictError(f"{path} is of another model: it has no {missing!r}") from None


def _tensors(content: Any) -> dict[str, Tensor]:
    given = content.items() if isinstance(content, Mapping) else ()
    return {key: value for key, value in given if isinstance(key, str) and isinstance(value, Tensor)}


def _created(name: str, data: ImageData) -> nn.Module:
    network, _, text = name.partition(":")
    options: dict[str, Any] = {
        "num_classes": len(data.classes),
        "in_channels": data.channels,
        "stem": stem_for(min(data.test_images.shape[-2:])),
    }
    for pair in filter(None, text.split(",")):
        key, _, value = (part.strip() for part in pair.partition("="))
        if key not in _OPTIONS:
            raise SettingsError(f"{network} has no option {key!r}; choose among {', '.join(_OPTIONS)}")
        options[key] = _count(key, value) if key in ("num_classes", "in_channels") else value
    options["se"] = _yes(options.get("se", "no"))
    return create(network, **options)


def _count(key: str, value: str) -> int:
    if not value.isdecimal():
        raise SettingsError(f"{key}={value}: expected a whole number")
    return int(value)


def _yes(value: str) -> bool:
    if value not in ("yes", "no"):
        raise SettingsError(f"se={value}: expected yes or no")
    return value == "yes"


def _imported(name: str) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise SettingsError(f"cannot import {module_name}: {error}") from error
    except AttributeError as error:
        raise SettingsError(
            f"{module_name} has no {attribute!r}; name a module or a function that returns one"
        ) from error
    finally:
        sys.path.remove(here)
    made = found if isinstance(found, nn.Module) else found() if callable(found) else found
    if not isinstance(made, nn.Module):
        raise SettingsError(f"{name} gives a {type(made).__name__}, expected a torch.nn.Module")
    return made
