"""`aconite table`: the paper's tables beside what is counted, found and measured here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aconite.cli.parser import Parser
from aconite.cli.train import TASKS, add_settings, settings_of
from aconite.errors import SettingsError

if TYPE_CHECKING:
    from aconite.lab import PublishedTable

__all__ = ["add_table"]

_TRAINING: dict[str, tuple[type, str, str]] = {  # option → type, metavar, help
    "data": (str, "DATA", "digits (default), mnist5k, or a folder with train/<class>/*, test/<class>/*"),
    "epochs": (int, "N", "passes over the training images (default 30)"),
    "seeds": (int, "N", "trainings of each row (default 3)"),
    "batch_size": (int, "N", "images in a step (default 128)"),
    "lr": (float, "X", "learning rate at the start (default 0.1)"),
    "schedule": (str, "NAME", "how the rate falls to 0: cosine (default) or linear"),
    "weight_decay": (float, "X", "of weights, not of activations and norms (default 0.0005)"),
    "label_smoothing": (float, "X", "of the training loss (default 0.1)"),
    "init": (str, "NAME", "start of learnable activations: paper (default), swish or near-swish"),
    "image_size": (int, "N", "resize a folder's images to N×N (default: as they are)"),
    "out": (str, "DIR", "where the runs lie, a folder for each network (default runs/table-<name>)"),
}
_COSTS: dict[str, tuple[type, str, str]] = {
    "cost_batch_size": (int, "N", "images in a batch (default 16)"),
    "cost_seconds": (float, "X", "for each group of rows, in training and in inference (default 10)"),
}
_TOLD: dict[str, Any] = {
    "usage": "aconite table NAME [OPTION ...]",
    "description": "Prints the published figures beside the parameters and operations counted here, beside the results "
    "of trainings where there are any, and beside costs measured here if asked for.",
    "epilog": "--train of detection and segmentation takes the settings of `aconite train` with the rows' networks and "
    "activations: `aconite table detection --help` lists them.",
    "argument_default": argparse.SUPPRESS,  # an option that is not given takes the library's default
}
_TRAIN = "first train the rows; stopped, the same command goes on where it was"


def add_table(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser("table", help="print a table of the paper beside what is measured here", **_TOLD)
    parser.instead = _runs_parser
    _add_printing(parser)
    _add(parser, "train", _TRAIN, _TRAINING)
    parser.set_defaults(run=_table, trained=_train)


def _runs_parser(words: Sequence[str]) -> argparse.ArgumentParser | None:
    """The parser of a table, the first word, whose rows are whole runs, if it is to train them."""
    if not words or words[0] not in TASKS or not {"--train", "--help", "-h"}.intersection(words):
        return None  # to print the table, the extra lab is enough
    parser = Parser(prog="aconite table", **_TOLD)
    _add_printing(parser)
    group = _add(parser, "train", _TRAIN, {"seeds": _TRAINING["seeds"]})
    add_settings(group, words[0], without=("model", "activation", "se", "seed"), out=_TRAINING["out"][2])
    parser.set_defaults(run=_table, trained=_train_runs)
    return parser


def _add_printing(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("name", metavar="NAME", help="3, meta, activations, tfnet, detection, segmentation or figure1")
    option("--networks", metavar="A,B,…", type=_names, help="only the rows that are compared with these networks'")
    option("--pixels", metavar="N", type=int, help="side of the images that are counted and timed (default 224)")
    option("--rows", metavar="PATH", nargs="+", default=[], help="take results from these files, or folders of runs")
    option("--device", metavar="NAME", help="for --costs, and --train of classifiers: auto (default), cpu or cuda")
    option("--json", metavar="FILE", help="write all that is known of each row")
    option("--csv", metavar="FILE", help="write a line for each row")
    option("--html", metavar="FILE", help="write the report page")
    option("--figure", metavar="FILE", help="of figure1: draw the bars, as .svg, .png or .pdf")
    option("--quiet", action="store_true", default=False, help="no progress display, only the table")
    _add(parser, "costs", "measure times and peak memory relative to ReLU", _COSTS)


def _add(parser: argparse.ArgumentParser, switch: str, told: str, options: dict[str, tuple[type, str, str]]) -> Any:
    group = parser.add_argument_group(f"with --{switch}")
    group.add_argument(f"--{switch}", action="store_true", default=False, help=told)
    for name, (kind, metavar, line) in options.items():
        group.add_argument(_flag(name), type=kind, metavar=metavar, help=line)
    return group


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _taken(given: dict[str, Any], switch: str, options: dict[str, tuple[type, str, str]]) -> dict[str, Any]:
    """The options that belong to a switch, without its name; naming one without the switch is a mistake."""
    taken = [name for name in options if name in given]
    if taken and not given[switch]:
        raise SettingsError(f"{_flag(taken[0])} says how to do what --{switch} asks for: add --{switch}")
    return {name.removeprefix("cost_"): given[name] for name in taken}


def _table(arguments: argparse.Namespace) -> int:
    from aconite import lab

    given = vars(arguments)
    _taken(given, "train", _TRAINING)
    cost = _taken(given, "costs", _COSTS)
    device = {"device": given["device"]} if "device" in given else {}
    size = {"image_size": given["pixels"]} if "pixels" in given else {}
    costs = lab.CostSettings(**cost, **size, **device) if arguments.costs else None
    table = lab.published_table(arguments.name)
    table = table.only(given["networks"]) if "networks" in given else table
    if "figure" in given:
        lab.check_bars(table, Path(given["figure"]))
    rows, tell = lab.find_rows(arguments.rows), _silent if arguments.quiet else _tell
    if arguments.train:
        out = Path(given.get("out", f"runs/table-{table.name}"))
        try:
            if not arguments.trained(table, out, given, tell):
                return 0  # another process of the training prints the table
        except KeyboardInterrupt:
            print(f"\nstopped; the same command goes on from the last finished epoch in {out}", file=sys.stderr)
            return 130
        rows += lab.find_rows([out])
    measured = lab.measure_table(table, rows=rows, costs=costs, tell=tell, **size)
    _write(measured, given)
    lab.print_measured(measured)
    return 0


def _train(table: PublishedTable, out: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> bool:
    """Trains with small images in memory; whether this process speaks."""
    from aconite import lab

    training = {name: given[name] for name in (*_TRAINING, "device") if name in given and name != "out"}
    lab.train_table(table, out, progress=lambda: lab.progress_for(given["quiet"]), **training)
    return True


def _train_runs(table: PublishedTable, out: Path, given: Mapping[str, Any], tell: Callable[[str], None]) -> bool:
    """Trains whole runs; whether this process speaks."""
    from aconite import lab
    from aconite.lab.runs import is_first_process, run_progress

    if "device" in given and not given["costs"]:
        raise SettingsError("--device says where --costs measures: the runs' is --accelerator, such as cpu or gpu")
    kind = "quiet" if given["quiet"] else given.get("progress", "auto")
    lab.train_table_runs(
        table,
        settings_of({**given, "task": table.task}),
        out,
        seeds=given.get("seeds", 3),
        progress=lambda: run_progress(kind),
        tell=lambda text: tell(text) if is_first_process() else None,
    )
    return is_first_process()


def _write(measured: Any, given: dict[str, Any]) -> None:
    from aconite import lab
    from aconite.whole_file import write_whole

    if "figure" in given:
        lab.write_bars(measured, Path(given["figure"]))
    if "json" in given:
        write_whole(Path(given["json"]), lab.table_json(measured).encode())
    if "csv" in given:
        write_whole(Path(given["csv"]), lab.table_csv(measured).encode())
    if "html" in given:
        lab.table_page(measured).write(given["html"])


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    pass
