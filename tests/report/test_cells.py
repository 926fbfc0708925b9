"""How a table's cells are written, aligned and sorted."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aconite.errors import SettingsError
from aconite.report.cells import Cell, ShownColumn, show


def column(*cells: Cell) -> ShownColumn:
    [shown] = show(["head"], [[cell] for cell in cells])
    return shown


def texts(*cells: Cell) -> list[str]:
    return [cell.text for cell in column(*cells).cells]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ((3.25, 12.5), ["3.25", "12.50"]),
        ((1379600, 346978), ["1,379,600", "346,978"]),
        ((12.34567, 3.2), ["12.35", "3.20"]),
        ((0.05123, 0.0), ["0.05123", "0.00000"]),
        ((1.0, 2.0), ["1", "2"]),
        ((-0.5, 0.25), ["−0.50", "0.25"]),
        ((1e-7, 2e-9), ["1e−07", "2e−09"]),
        ((1e20, 1.0), ["1e+20", "1"]),
        ((0.0,), ["0"]),
        ((math.nan, math.inf, -math.inf, 1.5), ["nan", "∞", "−∞", "1.5"]),
        ((None, 2.5), ["–", "2.5"]),
        (("a", 2.5), ["a", "2.5"]),
        ((), []),
    ],
)
def test_numbers_of_a_column_are_written_alike(cells: tuple[Cell, ...], expected: list[str]) -> None:
    assert texts(*cells) == expected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("3.1 ± 0.2", 3.1),
        ("−0.82 [−1.1, 0.3]", -0.82),
        ("-2", -2.0),
        ("1,379,600", 1_379_600.0),
        ("1.8×", 1.8),
        ("12 %", 12.0),
        ("1e999", sys.float_info.max),
        ("12%", 12.0),
        ("1e-3", 1e-3),
        ("5 (best)", 5.0),
        ("3x3 conv", None),
        ("2024-01-01", None),
        ("relu6", None),
        ("", None),
    ],
)
def test_strings_sort_by_the_number_they_begin_with(text: str, key: float | None) -> None:
    shown = column(text)
    assert shown.cells[0].key == key
    assert shown.numeric is (key is not None)


def test_one_word_makes_a_column_of_words() -> None:
    assert not column("3.1 ± 0.2", "none").numeric
    assert column("3.1 ± 0.2", None, math.nan).numeric
    assert not column(None, None).numeric


@given(st.lists(st.floats() | st.integers(-(10**18), 10**18) | st.none(), min_size=1, max_size=8))
def test_any_numbers_are_shown_and_keys_are_finite(cells: list[Cell]) -> None:
    for cell, shown in zip(cells, column(*cells).cells, strict=True):
        assert shown.missing is (cell is None or math.isnan(cell))  # type: ignore[arg-type]
        assert (shown.key is None) is shown.missing
        assert shown.key is None or math.isfinite(shown.key)
        assert 0 < len(shown.text) < 40


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_the_written_number_is_within_four_digits_of_the_largest(cells: list[float]) -> None:
    tolerance = max(1e-3 * max(map(abs, cells)), 1e-12)
    for cell, text in zip(cells, texts(*cells), strict=True):
        assert float(text.replace(",", "").replace("−", "-")) == pytest.approx(cell, abs=tolerance)


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ([], [], "at least one column"),
        (["a", "b"], [["x", 1.0], ["y"]], r"row 2 has 1 cells for 2 columns \(a, b\)"),
        (["a"], [[1j]], "row 1 of column 'a' is a complex; a cell is a string"),
    ],
)
def test_a_table_that_does_not_fit(columns: list[str], rows: list[list[Cell]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        show(columns, rows)
