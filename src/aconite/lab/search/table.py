"""The leaderboard in words and columns, for the terminal and for the report alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aconite.lab.search.leaderboard import Block, Finalist
from aconite.lab.search.rows import Row
from aconite.lab.search.settings import SearchSettings
from aconite.lab.statistics import PairedDifference
from aconite.lab.table import Columns, print_columns

__all__ = [
    "bias_sentence",
    "block_table",
    "finalist_table",
    "learnt_table",
    "print_search",
    "selection_table",
    "standing_sentence",
    "tried_sentence",
]


def print_search(settings: SearchSettings, finalists: Sequence[Finalist], rows: Sequence[dict[str, Any]]) -> None:
    """Prints what was tried, the finalists, and what the first result was worth."""
    print(tried_sentence(rows))
    print(standing_sentence(rows))
    print_columns(finalist_table(settings, finalists))
    print_columns(selection_table(finalists))
    print(bias_sentence(finalists))


def tried_sentence(rows: Sequence[Row]) -> str:
    """How many functions were tried, and what became of them."""
    head = rows[0]
    seconds = [row["timing"]["seconds"] for row in rows if row["kind"] == "candidate" and row["timing"]["seconds"]]
    of = f", of the space's {head['functions']:,}" if head["functions"] else ""
    told = [f"{_counted(head['tried'], 'function')} tried{of}"]
    told += [f"{head['failed']:,} blew up"] if head["failed"] else []
    told += [f"{head['pruned']:,} given up early"] if head["pruned"] else []
    pace = f" A training took {statistics.median(seconds):.2f} s (median)." if seconds else ""
    return "; ".join(told) + "." + pace


def standing_sentence(rows: Sequence[Row]) -> str:
    """Where the usual activations would have stood among the candidates."""
    tried = [math.inf if row["error"] is None else row["error"] for row in rows if row["kind"] == "candidate"]
    told = []
    for row in rows:
        if row["kind"] == "baseline":
            error = math.inf if row["validation_error"] is None else row["validation_error"]
            better = sum(other < error for other in tried)
            told.append(f"{row['activation']} {error:.2f} % ({better:,} of {len(tried):,} were better)")
    return f"Trained once as the candidates were: {', '.join(told)}."


def finalist_table(settings: SearchSettings, finalists: Sequence[Finalist]) -> Columns:
    """What each finalist comes to."""
    heads = ["function", "test error %", "difference to relu", "beyond noise"]
    rows: list[list[str | float | None]] = []
    for line in finalists:
        error = f"{line.test:.2f}" + ("" if line.interval is None else f" ± {line.interval:.2f}")
        beyond = None if line.p_adjusted is None else "yes" if line.p_adjusted < 0.05 else "no"
        difference = None if line.difference is None else _difference(line.difference)
        rows.append([_titled(line), error, difference, beyond])
    judged = "on images that chose nothing"
    if settings.seeds == 1:
        note = f"Test error after the last epoch, {judged}. One new seed: no difference can be told from noise."
    else:
        note = (
            f"Test error after the last epoch over {settings.seeds} new seeds, {judged}, with the mean's 95 % interval "
            "(Student's t). Difference: in points, paired by seed, with its interval; beyond noise: p < 0.05 after "
            f"Holm's correction over {len(finalists) - 1} comparisons."
        )
    blown = [f" {line.text}: {line.diverged} of {settings.seeds} blew up." for line in finalists if line.diverged]
    return heads, rows, note + "".join(blown)


def selection_table(finalists: Sequence[Finalist]) -> Columns:
    """What each finalist was chosen by, what that was worth, and what it costs."""
    heads = ["function", "chosen by %", "same again %", "test error %", "step time / relu", "parameters"]
    rows: list[list[str | float | None]] = [
        [
            _titled(line), line.chosen_by, line.validation, line.test, f"{line.cost.step_ratio[1]:.2f}",
            line.cost.parameters,
        ]
        for line in finalists
    ]  # fmt: skip
    note = (
        "Chosen by: the validation error of the one training that made it a finalist. Same again: the mean validation "
        "error of the new seeds. Step time: of a training step, median of the ratio to relu in turns."
    )
    return heads, rows, note


def bias_sentence(finalists: Sequence[Finalist]) -> str:
    """By how much the search flattered what it chose."""
    chosen = [line for line in finalists if line.chosen_by is not None]
    if not chosen:
        return "All functions that could be trained are among those that every search is compared with."
    first = statistics.fmean(line.chosen_by or 0.0 for line in chosen)
    again = statistics.fmean(line.validation for line in chosen)
    test = statistics.fmean(line.test for line in chosen)
    beyond = [
        line.text for line in chosen
        if line.difference and line.difference.mean < 0 and line.p_adjusted is not None and line.p_adjusted < 0.05
    ]  # fmt: skip
    verdict = (
        f"Better than relu beyond noise: {', '.join(beyond)}." if beyond else "None is better than relu beyond noise."
    )
    return (
        f"{_counted(len(chosen), 'function')} chosen with {first:.2f} % of validation images wrong; trained again with "
        f"other seeds it was {again:.2f} % of the same images, and {test:.2f} % of the test images. {verdict}"
    )


def learnt_table(learnt: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> Columns:
    """What each function's parameters are in the network that its picture shows: function → layer → name → values."""
    heads = ["function", "parameter", "5 %", "median", "95 %"]
    rows: list[list[str | float | None]] = []
    for text, layers in learnt.items():
        for name in layers[0] if layers else ():
            values = np.concatenate([layer[name] for layer in layers])
            rows.append([text, name, *(f"{value:.3f}" for value in np.quantile(values, [0.05, 0.5, 0.95]))])
    return heads, rows, "Quantiles over all channels of all layers. Every beta starts at 1."


def block_table(settings: SearchSettings, found: Sequence[Block]) -> Columns:
    """Where the functions with each building block stand."""
    heads = ["building block", "as", "functions", "blew up", "mean rank"]
    rows: list[list[str | float | None]] = [
        [
            block.text, block.gene, block.count, block.failed,
            f"{block.rank:.1f}" + ("" if block.interval is None else f" ± {block.interval:.1f}"),
        ]
        for block in found
    ]  # fmt: skip
    note = (
        "Rank among all functions that were trained to the end or blew up, from 0 (lowest validation error) to 100; "
        "mean over the functions that have the block, with its 95 % interval. A function that several choices build "
        "counts for the choice of its shortest formula."
    )
    if settings.strategy in ("evolution", "tpe"):
        note += f" The strategy {settings.strategy} tried more of what had done well: this is no fair sample."
    return heads, rows, note


def _counted(number: int, what: str) -> str:
    return f"1 {what} was" if number == 1 else f"{number:,} {what}s were"


def _titled(line: Finalist) -> str:
    return line.text + (f" ({line.name})" if line.name else "")


def _difference(change: PairedDifference) -> str:
    interval = "" if change.low is None else f" ({change.low:+.2f} … {change.high:+.2f})"
    return f"{change.mean:+.2f}{interval}"
