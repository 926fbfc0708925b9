"""Where a run's settings come from: the task's defaults, a named recipe, a TOML file, the command line; later wins.

A recipe is a TOML file in the folder ``recipes``, of the same form as the user's own.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from aconite.errors import SettingsError, UnknownNameError
from aconite.lab.runs.kinds import KINDS, kind_of
from aconite.lab.runs.options import checked, options_of
from aconite.lab.runs.settings import RunSettings

__all__ = ["recipes", "resolve", "settings_toml"]


def recipes(task: str | None = None) -> tuple[str, ...]:
    """Names of the recipes, of one task or of all.

    >>> recipes("segmentation")
    ('paper-pspnet', 'small')
    """
    return tuple(sorted({name for name, kind in _files() if task in (None, kind)}))


def resolve(
    task: str, *, recipe: str | None = None, config: str | Path | None = None, given: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings of a run. ``epochs`` given at one place takes ``steps`` of an earlier one away, and the reverse.

    Args:
        task: "classification", "detection" or "segmentation".
        recipe: a name of `recipes`.
        config: a TOML file of settings.
        given: settings by name.

    Raises:
        UnknownNameError: no such task, recipe or setting.
        SettingsError: a file that cannot be read, a value that is not allowed.

    >>> resolve("classification", recipe="paper-resnet", given={"data": "imagenet", "activation": "relu"}).steps
    600000
    """
    record = kind_of(task).settings
    values: dict[str, Any] = {}
    for source, content in (
        (f"recipe {recipe}", _recipe(task, recipe)),
        (str(config), _config(task, config)),
        ("", given or {}),
    ):
        layer = checked(record, content, source)
        for one, other in (("epochs", "steps"), ("steps", "epochs")):
            if layer.get(one) is not None and layer.get(other) is None:
                values.pop(other, None)
        values |= layer
    return record(**values)


def settings_toml(settings: RunSettings) -> str:
    """The settings as a TOML file that `resolve` reads."""
    lines = [f'task = "{settings.task}"']
    for one in options_of(type(settings)):
        value = getattr(settings, one.name)
        value = "none" if value is None else list(value) if isinstance(value, tuple) else value
        # JSON's numbers, texts, lists and booleans are TOML's too
        lines.append(f"{one.name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _recipe(task: str, name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in recipes(task):
        if name in recipes():
            fitting = ", ".join(kind for found, kind in _files() if found == name)
            raise SettingsError(f"recipe {name} is for {fitting}, not for {task}: choose {', '.join(recipes(task))}")
        raise UnknownNameError("recipe", name, recipes(task))
    return _without_task(tomllib.loads(_files()[name, task]), task, f"recipe {name}")


def _config(task: str, path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; name a TOML file with --config") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise SettingsError(f"{path} is no TOML: {error}") from error
    return _without_task(content, task, str(path))


def _without_task(content: dict[str, Any], task: str, source: str) -> dict[str, Any]:
    if content.pop("task", task) != task:
        raise SettingsError(f"{source} is for another task than {task}: correct its line task, or the command")
    return content


def _files() -> dict[tuple[str, str], str]:
    """(name, task) → text; a recipe for several tasks, such as small, has a file for each, small.detection.toml."""
    found = {}
    for file in resources.files("aconite.lab.runs").joinpath("recipes").iterdir():
        name, _, rest = file.name.partition(".")
        if rest.endswith("toml"):
            text = file.read_text("utf-8")
            task = tomllib.loads(text)["task"]
            assert task in KINDS
            found[name, task] = text
    return found
