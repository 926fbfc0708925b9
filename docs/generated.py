"""What the pages take from the package at build time: drawings, lists of names, and the command line's own help."""

import contextlib
import io
import json
import os
from pathlib import Path

import figures

from aconite.cli import main
from aconite.models import create, list_models
from aconite.nn import activation, activations
from aconite.report import (
    family_curves,
    function_curves,
    maxout_pairs,
    switching_curves,
    write_explorer,
    write_figure,
)


def write_all(app):
    folder = Path(app.srcdir) / "_build" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    figures.draw_all(folder)
    names = ["relu", "gelu", "mish", "acon-c:p1=1.2,p2=-0.8,beta=2"]
    drawn = {"family": family_curves(), "pairs": maxout_pairs(), "switching": switching_curves()}
    for name, figure in (drawn | {"curves": function_curves(names)}).items():
        write_figure(figure, folder / f"{name}.svg")
    write_explorer(Path(app.outdir) / "sliders.html")
    (folder / "activations.md").write_text(
        table(("name", "function", "parameters at C = 64"), activation_rows()), "utf-8"
    )
    (folder / "networks.md").write_text(table(("name", "parameters, 1000 classes, ReLU"), network_rows()), "utf-8")
    columns = ("library", "network", "converted", "largest step of a layer", "output", "left, and why")
    (folder / "convert-sweep.md").write_text(table(columns, sweep_rows()), "utf-8")
    columns = ("network", "activation", "parameters", "multiply-adds (M)", "float32", "reference's rounding", "float64")
    (folder / "reference-parity.md").write_text(table(columns, parity_rows()), "utf-8")
    for command in ("demo", "compare", "table", "search"):
        (folder / f"{command}-help.txt").write_text(help_of(command), "utf-8")


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def activation_rows():
    for name, line in activations().items():
        layer = activation(name, 64)
        yield f"`{name}`", line, f"{sum(parameter.numel() for parameter in layer.parameters()):,}"


def network_rows():
    for name in list_models():
        yield f"`{name}`", f"{sum(parameter.numel() for parameter in create(name).parameters()):,}"


def sweep_rows():
    """Of `tests/surgery/sweep/sweep.py`."""
    results = Path(__file__).parents[1] / "benchmarks/results/convert-sweep.jsonl"
    for row in map(json.loads, results.read_text("utf-8").splitlines()):
        if "converted" not in row:
            yield row["library"], row["model"], "", "", "", row.get("nothing") or row.get("skipped") or row["error"]
            continue
        steps = [row[name] for name in ("largest_exact", "largest_fit") if row[name] is not None]
        moved = row["output_deviation"]
        yield (
            row["library"],
            row["model"],
            f"{row['converted']} of {row['sites']}",
            f"{max(steps):.2g}" if steps else "",
            f"{moved / row['output_scale']:.1%}" if moved is not None and row["output_scale"] else "",
            "; ".join(f"{count} × {reason}" for reason, count in row["left"].items()),
        )


def parity_rows():
    """Of `benchmarks/reference_parity.py`; of the distances the largest over the seeds."""
    results = Path(__file__).parents[1] / "benchmarks/results/reference-parity.jsonl"
    for row in map(json.loads, results.read_text("utf-8").splitlines()):
        distances = (f"{max(row[kind]):.1e}".replace("e-0", "e-") for kind in ("float32", "rounding_theirs", "float64"))
        adds = f"{row['multiply_adds'] / 1e6:,.2f}"
        yield f"`{row['network']}`", f'`"{row["activation"]}"`', f"{row['parameters']:,}", adds, *distances


def help_of(command):
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([command, "--help"])
    return printed.getvalue()


def setup(app):
    app.connect("builder-inited", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
