"""A measured table as data: JSON with all that is known, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from aconite.kernels import native_library
from aconite.lab.tables.measured import MeasuredTable
from aconite.lab.tables.printed import PublishedRow
from aconite.lab.tables.results import Result
from aconite.provenance import provenance

__all__ = ["table_csv", "table_json"]


def table_json(measured: MeasuredTable) -> str:
    """The table as one JSON object: each row with everything that is known of it, and where that comes from."""
    settings = measured.cost_settings
    content = {
        "table": measured.table.name,
        "title": measured.table.title,
        "image_size": measured.image_size,
        "cost_settings": settings and asdict(settings),
        "rows": [_record(measured, row) for row in measured.table.rows],
        "provenance": provenance(settings.device if settings else "cpu") | {"native": native_library().isa},
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def table_csv(measured: MeasuredTable) -> str:
    """The table as CSV: a line for each row and metric and, where there are results, each budget."""
    lines = [line for row in measured.table.rows for line in _lines(measured, row)]
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _record(measured: MeasuredTable, row: PublishedRow) -> dict[str, Any]:
    counts, cost = measured.counts[row], measured.costs.get(row)
    return {
        "label": row.label,
        "network": row.network,
        "activation": row.activation,
        "se": row.se,
        "call": row.call,
        "published": {**row.figures, "parameters": row.parameters, "multiply_adds": row.multiply_adds},
        "counted": asdict(counts),
        "beyond_rounding": measured.beyond_rounding(row),
        "measured": [
            {
                "metric": metric,
                "mean": result.mean,
                "deviation": result.deviation,
                "by_seed": result.values,
                "diverged": result.diverged,
                "settings": budget.settings,
            }
            for budget in measured.budgets
            for metric, result in budget.results[row].items()
        ],
        "cost": cost and asdict(cost),
    }


def _lines(measured: MeasuredTable, row: PublishedRow) -> Iterator[dict[str, Any]]:
    counts, cost = measured.counts[row], measured.costs.get(row)
    for metric in measured.table.metrics:
        trained: list[tuple[str | None, Result | None]] = [
            (budget.words, found) for budget in measured.budgets if (found := budget.results[row].get(metric))
        ]
        for words, result in trained or [(None, None)]:
            yield {
                "network": row.network,
                "activation": row.activation,
                "se": row.se,
                "metric": metric,
                "published": row.figures.get(metric),
                "measured": result and result.mean,
                "deviation": result and result.deviation,
                "seeds": result and len(result.values),
                "budget": words,
                "published_parameters": row.parameters,
                "published_multiply_adds": row.multiply_adds,
                **asdict(counts),
                "training_ratio": cost and cost.training_ratio.p50,
                "inference_ratio": cost and cost.inference_ratio.p50,
                "peak_ratio": cost and cost.peak_ratio,
                "saved_ratio": cost and cost.saved_ratio,
            }
