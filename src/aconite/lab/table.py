"""The summary in words and columns, for the terminal and for the report alike."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from aconite.lab.settings import CompareSettings
from aconite.lab.statistics import PairedDifference
from aconite.lab.summary import ERROR, Line, Metric, Standing

__all__ = [
    "Columns", "cost_table", "difference_text", "error_table", "print_columns", "print_table", "standing_table",
    "verdict",
]  # fmt: skip

_Value = str | float | None
Columns = tuple[list[str], list[list[_Value]], str]  # heads, a row of values for each line, the note below


def error_table(settings: CompareSettings, lines: Sequence[Line]) -> Columns:
    """What each activation comes to."""
    return standing_table(ERROR, settings.baseline, settings.seeds, lines)


def standing_table(metric: Metric, baseline: str, seeds: int, standings: Sequence[Standing]) -> Columns:
    """The same, of any metric."""
    heads = ["activation", f"{metric.words} %", f"difference to {baseline}", "beyond noise"]
    rows: list[list[_Value]] = [
        [
            each.activation,
            f"{each.mean:.2f}" + ("" if each.deviation is None else f" ± {each.deviation:.2f}"),
            None if each.difference is None else difference_text(each.difference),
            {None: None, True: "yes", False: "no"}[each.beyond_noise],
        ]
        for each in standings
    ]
    return heads, rows, " ".join(_notes(metric, seeds, standings))


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
    folded = False
    if file:
        between = 3 * len(heads) + 1
        console = Console(width=max(100, sum(widest) + between))
        folded = sum(map(max, widest, map(len, heads))) + between > console.width  # heads, at their words
    if caption:
        console.print(f"\n{caption}", style="bold", markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for at, (head, width) in enumerate(zip(heads, widest, strict=True)):
        table.add_column(
            head, justify="right" if at else "left", no_wrap=not at, overflow="fold", width=width if folded else None
        )
    for row in shown:
        table.add_row(*row)
    console.print(table)
    console.print(note, markup=False, highlight=False, width=100 if file else None)


def verdict(metric: Metric, baseline: str, seeds: int, standings: Sequence[Standing]) -> str:
    """Which activation is best, and which differences are more than chance, in a sentence or two."""
    best = metric.best(standings)
    most = "highest" if metric.higher_is_better else "lowest"
    beginning = f"The {most} mean {metric.words} is {best.activation}'s, {best.mean:.2f} %."
    if seeds == 1:
        return f"{beginning} With one seed nothing can be said about whether a difference is more than chance."
    said = [
        f"{each.activation} is {abs(change.mean):.2f} points {'better' if metric.better(change.mean) else 'worse'}"
        for each in standings
        if each.beyond_noise and (change := each.difference)
    ]
    if not said:
        return f"{beginning} No difference to {baseline} is beyond the noise of {seeds} seeds."
    return f"{beginning} Beyond noise against {baseline}: {', '.join(said)}."


def _notes(metric: Metric, seeds: int, standings: Sequence[Standing]) -> list[str]:
    words = metric.words[0].upper() + metric.words[1:]
    if seeds == 1:
        notes = [
            f"{words} after the last epoch. One seed: no standard deviation, no interval, and no difference can be "
            "told from noise."
        ]
    else:
        notes = [f"{words} after the last epoch, mean ± standard deviation over {seeds} seeds."]
    if seeds > 1 and len(standings) > 1:
        notes.append(
            "Differences in percentage points, paired by seed, with their 95 % interval by Student's t; beyond noise: "
            f"p < 0.05 after Holm's correction over {len(standings) - 1} comparison{'s' if len(standings) > 2 else ''}."
        )
    counted = "as 0" if metric.higher_is_better else "with the error of guessing"
    notes += [
        f"{each.activation}: {each.diverged} of {seeds} diverged (the loss was no longer finite) and count {counted}."
        for each in standings
        if each.diverged
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
