"""The summary in words and columns, for the terminal and for the report alike."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from aconite.lab.settings import CompareSettings
from aconite.lab.statistics import PairedDifference
from aconite.lab.summary import Line

__all__ = ["Columns", "cost_table", "difference_text", "error_table", "print_columns", "print_table"]

_Value = str | float | None
Columns = tuple[list[str], list[list[_Value]], str]  # heads, a row of values for each line, the note below


def error_table(settings: CompareSettings, lines: Sequence[Line]) -> Columns:
    """What each activation comes to."""
    heads = ["activation", "test error %", f"difference to {settings.baseline}", "beyond noise"]
    rows: list[list[_Value]] = [
        [
            line.activation,
            f"{line.mean:.2f}" + ("" if line.deviation is None else f" ± {line.deviation:.2f}"),
            None if line.difference is None else difference_text(line.difference),
            {None: None, True: "yes", False: "no"}[line.beyond_noise],
        ]
        for line in lines
    ]
    return heads, rows, " ".join(_error_notes(settings, lines))


def cost_table(settings: CompareSettings, lines: Sequence[Line]) -> Columns:
    """What each activation costs."""
    heads = ["activation", "parameters", "multiply-adds (M)", f"step time / {settings.baseline}", "saved MB"]
    rows: list[list[_Value]] = []
    for line in lines:
        low, middle, high = line.step_ratio
        time, saved = f"{middle:.2f} ({low:.2f}–{high:.2f})", round(line.saved_bytes / 1e6, 2)
        rows.append([line.activation, line.parameters, round(line.multiply_adds / 1e6, 3), time, saved])
    note = (
        "Multiply-adds: of one image's forward pass, convolutions and linear layers only. Step time: of a training "
        f"step, median of the ratio to {settings.baseline} in turns (20th–80th percentile). Saved: what its forward "
        f"pass keeps for the backward pass. Both with {settings.batch_size} images."
    )
    return heads, rows, note


def print_table(settings: CompareSettings, lines: Sequence[Line]) -> None:
    """Prints both tables, each with its note."""
    print_columns(error_table(settings, lines))
    print_columns(cost_table(settings, lines))


def print_columns(columns: Columns, caption: str | None = None) -> None:
    """Prints one table with its note below, and its caption above if it has one; a narrow terminal folds it."""
    heads, rows, note = columns
    shown = [[_shown(value) for value in row] for row in rows]
    widest = [max(map(len, [*head.split(), *(row[at] for row in shown)])) for at, head in enumerate(heads)]
    console = Console()
    file = not console.is_terminal  # as wide as its table needs, and at least 100: 80 is too narrow for long names
    if file:
        console = Console(width=max(100, sum(widest) + 2 * len(heads) + 2))
    if caption:
        console.print(f"\n{caption}", style="bold", markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for at, (head, width) in enumerate(zip(heads, widest, strict=True)):
        table.add_column(
            head, justify="right" if at else "left", no_wrap=not at, overflow="fold", min_width=width if file else None
        )
    for row in shown:
        table.add_row(*row)
    console.print(table)
    console.print(note, markup=False, highlight=False, width=100 if file else None)


def _error_notes(settings: CompareSettings, lines: Sequence[Line]) -> list[str]:
    if settings.seeds == 1:
        notes = [
            "Test error after the last epoch. One seed: no standard deviation, no interval, and no difference can be "
            "told from noise."
        ]
    else:
        notes = [f"Test error after the last epoch, mean ± standard deviation over {settings.seeds} seeds."]
    if settings.seeds > 1 and len(lines) > 1:
        notes.append(
            "Differences in percentage points, paired by seed, with their 95 % interval by Student's t; beyond noise: "
            f"p < 0.05 after Holm's correction over {len(lines) - 1} comparison{'s' if len(lines) > 2 else ''}."
        )
    notes += [
        f"{line.activation}: {line.diverged} of {settings.seeds} diverged (the loss was no longer finite) and "
        "count with the error of guessing."
        for line in lines
        if line.diverged
    ]
    return notes


def difference_text(difference: PairedDifference) -> str:
    """The mean and, where there is one, its interval."""
    interval = "" if difference.low is None else f" ({difference.low:+.2f} … {difference.high:+.2f})"
    return f"{difference.mean:+.2f}{interval}"


def _shown(value: _Value) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:.2f}"
