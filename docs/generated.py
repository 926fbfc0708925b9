"""What the pages take from the package at build time: drawings, lists of names, and the command line's own help."""

import contextlib
import io
import os
from pathlib import Path

import figures

from aconite.cli import main
from aconite.models import create, list_models
from aconite.nn import activation, activations


def write_all(app):
    folder = Path(app.srcdir) / "_build" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    figures.draw_all(folder)
    (folder / "activations.md").write_text(
        table(("name", "function", "parameters at C = 64"), activation_rows()), "utf-8"
    )
    (folder / "networks.md").write_text(table(("name", "parameters, 1000 classes, ReLU"), network_rows()), "utf-8")
    for command in ("demo", "compare"):
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


def help_of(command):
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([command, "--help"])
    return printed.getvalue()


def setup(app):
    app.connect("builder-inited", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
