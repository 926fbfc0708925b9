"""`aconite compare` and `aconite demo`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aconite.cli.compare_runs import runs_parser
from aconite.cli.names import names
from aconite.cli.several import Several, add_several_options, train_cells
from aconite.cli.study import add_study_options, compare_study

if TYPE_CHECKING:
    from aconite.lab import CompareSettings

__all__ = ["add_compare", "add_demo"]


def add_compare(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "compare",
        help="train a network with several activations and compare them",
        description="Trains the same network with each activation, several seeds each, and reports test errors with "
        "their uncertainty, and costs. Stopped at any moment, the same command goes on where it was.",
        argument_default=argparse.SUPPRESS,  # an option that is not given takes CompareSettings' default
    )
    parser.instead = runs_parser
    option = parser.add_argument
    option(
        "--task",
        metavar="TASK",
        help="classification, detection or segmentation: compare whole runs of `aconite train`, whose options "
        "`aconite compare --task TASK --help` lists; the options below are for small images in memory",
    )
    option("--data", metavar="DATA", help="digits (default), mnist5k, a folder with train/<class>/*, test/<class>/*, "
           "or hf:NAME, a data set of Hugging Face on disk or on the Hub")  # fmt: skip
    option("--model", metavar="NAME", help="the network (default resnet8), such as resnet20 or shufflenetv2_x0_5")
    option(
        "--activations",
        metavar="A,B,…",
        type=names,
        help="names or formulas (default relu,silu,acon-c,meta-acon,se-relu)",
    )
    option("--se", action="store_true", help="squeeze-and-excitation at the end of each block (default False)")
    option("--seeds", metavar="N", type=int, help="trainings of each activation (default 3)")
    option("--epochs", metavar="N", type=int, help="passes over the training images (default 30)")
    option("--batch-size", metavar="N", type=int, help="images in a step (default 128)")
    option("--lr", metavar="X", type=float, help="learning rate at the start (default 0.1)")
    option("--schedule", metavar="NAME", help="how the rate falls to 0: cosine (default) or linear")
    option("--weight-decay", metavar="X", type=float, help="of weights, not of activations and norms (default 0.0005)")
    option("--label-smoothing", metavar="X", type=float, help="of the training loss (default 0.1)")
    option("--init", metavar="NAME", help="start of learnable activations: paper (default), swish or near-swish")
    option("--image-size", metavar="N", type=int, help="resize a folder's images to N×N (default: as they are)")
    option("--device", metavar="NAME", help="auto (default), cpu or cuda")
    option("--out", metavar="RUNDIR", help="folder of the run (default runs/<data>-<model>)")
    add_study_options(parser, names)
    add_several_options(parser)
    _add_quiet(parser)
    parser.set_defaults(run=_compare)


def add_demo(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "demo",
        help="compare five activations on handwritten digits, in about two minutes",
        description="`aconite compare` with its defaults: five activations, three seeds each, on real digits.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--out", metavar="RUNDIR", default="runs/demo", help="folder of the run (default runs/demo)")
    _add_quiet(parser)
    parser.set_defaults(run=_compare)


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", default=False, help="no progress display, only the table")


def _compare(arguments: argparse.Namespace) -> int:
    from aconite.lab import CompareSettings, compare, compare_jobs, print_table, progress_for

    given = vars(arguments).copy()
    out, quiet = given.pop("out", None), given.pop("quiet")
    del given["run"]
    several = Several.take(given, lambda: CompareSettings(device=given.get("device", "auto")).resolved_device == "cuda")
    if (status := compare_study(given, out, quiet, several)) is not None:
        return status
    settings = CompareSettings(**given)
    folder = out or _default_folder(settings)

    def whole() -> Path:
        comparison = compare(settings, folder, progress_for(quiet), cluster=several.cluster)
        print_table(settings, comparison.lines)
        return comparison.report

    return several.run(folder, lambda: compare_jobs(settings, folder), lambda jobs: train_cells(jobs, quiet), whole)


def _default_folder(settings: CompareSettings) -> str:
    from aconite.lab.data import data_name

    return f"runs/{data_name(settings.data)}-{settings.model}{'-se' if settings.se else ''}"
