"""Settings as frozen records whose fields say what they are for: read from TOML or the command line, and checked."""

from __future__ import annotations

import math
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from aconite.errors import SettingsError, UnknownNameError

__all__ = ["Option", "checked", "option", "options_of", "read_value"]


@dataclass(frozen=True)
class Option:
    """One setting as a command line shows it: name, type, default, what it is for, and its choices."""

    name: str
    kind: Any
    default: Any
    told: str
    choices: tuple[str, ...]
    lowest: float | None
    above: float | None
    highest: float | None
    count: int | None


def option(
    default: Any,
    told: str,
    *,
    choices: Sequence[str] = (),
    lowest: float | None = None,
    above: float | None = None,
    highest: float | None = None,
    count: int | None = None,
) -> Any:
    """A field of a settings record: its default, one line for ``--help``, and which values are allowed, if its type is
    no Literal; of a list, how many, and which each may be.
    """
    bounds = {"lowest": lowest, "above": above, "highest": highest, "count": count}
    return field(default=default, metadata={"told": told, "choices": tuple(choices), **bounds})


def options_of(record: type) -> list[Option]:
    """All settings of a record, in their order."""
    hints = get_type_hints(record)
    return [_option(entry, hints[entry.name]) for entry in fields(record) if "told" in entry.metadata]


def read_value(text: str, option: Option) -> Any:
    """What a word of the command line stands for: numbers and lists as TOML writes them, several words between commas
    for a list, "none" for an empty one or, where there may be none, for no list, and any other word itself.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Two:
    ...     lr: float = option(0.1, "learning rate")
    ...     bins: tuple[int, ...] = option((1, 2), "sizes")
    >>> [read_value(text, one) for text, one in zip(["1e-2", "1,2,3"], options_of(Two))]
    [0.01, [1, 2, 3]]
    """
    if get_origin(_required(option.kind)) is tuple and not text.startswith("["):
        if text == "none":
            return text if _optional(option.kind) else []
        return [_toml(part.strip()) for part in text.split(",") if part.strip()]
    return text if _required(option.kind) is str else _toml(text)


def checked(record: type, given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The values as the record's types, each looked at. "none" is no value, where there may be none: TOML has no word
    for it. A text may be a number without quotes.

    Raises:
        UnknownNameError: there is no such setting.
        SettingsError: a value of another type, or out of its range; the message names ``source``.
    """
    known = {one.name: one for one in options_of(record)}
    for name in given:
        if name.replace("-", "_") not in known:
            raise UnknownNameError(f"setting of {source}" if source else "setting", name, known)
    return {(plain := name.replace("-", "_")): _fitting(known[plain], value, source) for name, value in given.items()}


def _option(entry: Field[Any], kind: Any) -> Option:
    default = None if entry.default is MISSING else entry.default
    named = {"kind": kind, **entry.metadata}
    if get_origin(kind) is Literal:
        named |= {"kind": str, "choices": get_args(kind)}
    return Option(name=entry.name, default=default, **named)


def _fitting(one: Option, value: Any, source: str) -> Any:
    where = f" ({source})" if source else ""
    if value in (None, "none") and _optional(one.kind):
        return None
    kind = _required(one.kind)
    if get_origin(kind) is tuple:
        part = get_args(kind)[0]
        if not isinstance(value, (list, tuple)) or not all(_is(part, each) for each in value):
            raise SettingsError(f"{one.name} is {value!r}{where}: it must be a list of {_NAMES[part]}, such as "
                                f"{list(one.default) if one.default else _EXAMPLES[part]}")  # fmt: skip
        if one.count not in (None, len(value)):
            raise SettingsError(f"{one.name} is {list(value)}{where}: it must be {one.count} {_NAMES[part]}")
        for each in value:
            _check(one, part, each, where)
        return tuple(part(each) for each in value)
    if kind is str and _is(int, value):
        value = str(value)
    if not _is(kind, value):
        raise SettingsError(f"{one.name} is {value!r}{where}: it must be {_A_NAMES[kind]}")
    _check(one, kind, value, where)
    return kind(value)


def _check(one: Option, kind: type, value: Any, where: str) -> None:
    if one.choices and value not in one.choices:
        raise SettingsError(f"{one.name} is {value!r}{where}: choose one of {', '.join(one.choices)}")
    if kind in (int, float):
        _check_bounds(one, value, where)


def _check_bounds(one: Option, value: float, where: str) -> None:
    low = one.lowest is None or value >= one.lowest
    if not math.isfinite(value) or not low or (one.above is not None and value <= one.above) or (
        one.highest is not None and value > one.highest
    ):  # fmt: skip
        words = [f"at least {one.lowest:g}"] if one.lowest is not None else []
        words += [f"above {one.above:g}"] if one.above is not None else []
        words += [f"at most {one.highest:g}"] if one.highest is not None else []
        raise SettingsError(f"{one.name} is {value!r}{where}: it must be a number {' and '.join(words)}".rstrip())


def _is(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _required(kind: Any) -> Any:
    return next(part for part in get_args(kind) if part is not type(None)) if _optional(kind) else kind


_NAMES = {int: "whole numbers", float: "numbers", str: "words"}
_A_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_EXAMPLES = {int: [1, 2], float: [0.5, 2.0], str: ["a", "b"]}
