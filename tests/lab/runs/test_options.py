from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from aconite.errors import SettingsError, UnknownNameError
from aconite.lab.runs.options import checked, option, options_of, read_value


@dataclass(frozen=True)
class Record:
    lr: float = option(0.1, "the rate", above=0, highest=10)
    count: int = option(3, "how many", lowest=1)
    least: int | None = option(None, "if any", lowest=1)
    kind: Literal["a", "b"] = option("a", "which")
    names: tuple[str, ...] = option(("x",), "which ones", choices=("x", "y"))
    pair: tuple[float, ...] = option((0.5, 2.0), "two", above=0, count=2)
    where: str = option("here", "a place")
    on: bool = option(False, "whether")
    sides: tuple[int, ...] | None = option(None, "two, if any", lowest=1, count=2)
    hidden: int = 0


def test_options_are_in_order_and_hold_what_help_needs() -> None:
    assert [one.name for one in options_of(Record)] == [
        "lr", "count", "least", "kind", "names", "pair", "where", "on", "sides",
    ]  # fmt: skip
    by_name = {one.name: one for one in options_of(Record)}
    assert by_name["kind"].choices == ("a", "b")
    assert (by_name["lr"].default, by_name["lr"].told) == (0.1, "the rate")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-2", 0.01),
        ("lr", "1", 1),
        ("count", "1_000", 1000),
        ("least", "none", "none"),
        ("names", "x,y", ["x", "y"]),
        ("names", "none", []),
        ("names", "", []),
        ("pair", "0.5, 2", [0.5, 2]),
        ("pair", "[0.5, 2]", [0.5, 2]),
        ("sides", "3,4", [3, 4]),
        ("sides", "none", "none"),
        ("where", "2", "2"),
        ("where", "a,b", "a,b"),
        ("lr", "fast", "fast"),
    ],
)
def test_words_of_the_command_line(name: str, text: str, value: Any) -> None:
    assert read_value(text, {one.name: one for one in options_of(Record)}[name]) == value


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"lr": 1}, 1.0),
        ({"least": "none"}, None),
        ({"least": None}, None),
        ({"names": ["y"]}, ("y",)),
        ({"pair": [1, 2]}, (1.0, 2.0)),
        ({"sides": [1, 2]}, (1, 2)),
        ({"sides": "none"}, None),
        ({"where": 2}, "2"),
    ],
)
def test_values_become_the_records_types(given: dict[str, Any], value: Any) -> None:
    (found,) = checked(Record, given, "").values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lr": "fast"}, "lr is 'fast' (my.toml): it must be a number"),
        ({"lr": True}, "lr is True (my.toml): it must be a number"),
        ({"lr": 0}, "lr is 0 (my.toml): it must be a number above 0 and at most 10"),
        ({"lr": math.nan}, "lr is nan (my.toml): it must be a number above 0 and at most 10"),
        ({"count": 1.5}, "count is 1.5 (my.toml): it must be a whole number"),
        ({"count": 0}, "count is 0 (my.toml): it must be a number at least 1"),
        ({"count": None}, "count is None (my.toml): it must be a whole number"),
        ({"kind": "c"}, "kind is 'c' (my.toml): choose one of a, b"),
        ({"names": "x"}, "names is 'x' (my.toml): it must be a list of words, such as ['x']"),
        ({"names": ["z"]}, "names is 'z' (my.toml): choose one of x, y"),
        ({"pair": [1.0]}, "pair is [1.0] (my.toml): it must be 2 numbers"),
        ({"pair": [1.0, -1]}, "pair is -1 (my.toml): it must be a number above 0"),
        ({"pair": [1.0, "a"]}, "pair is [1.0, 'a'] (my.toml): it must be a list of numbers, such as [0.5, 2.0]"),
        ({"sides": [1]}, "sides is [1] (my.toml): it must be 2 whole numbers"),
        ({"on": 1}, "on is 1 (my.toml): it must be true or false"),
        ({"where": 1.5}, "where is 1.5 (my.toml): it must be a text"),
    ],
)
def test_a_wrong_value_is_told_in_a_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as raised:
        checked(Record, given, "my.toml")
    assert str(raised.value) == told


def test_an_unknown_setting() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown setting of my\.toml 'cuont': did you mean 'count'\?"):
        checked(Record, {"cuont": 3}, "my.toml")
    with pytest.raises(UnknownNameError, match="unknown setting 'hidden'"):
        checked(Record, {"hidden": 3}, "")
