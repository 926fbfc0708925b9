"""`aconite compare --task`: whole runs of `aconite train`, one for each activation and seed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aconite.cli.names import names
from aconite.cli.parser import Parser
from aconite.cli.several import Several, add_several_options
from aconite.cli.train import TASKS, add_settings, run_folder, settings_of

__all__ = ["runs_parser"]


def runs_parser(words: Sequence[str]) -> argparse.ArgumentParser | None:
    """The parser of these words if there is a --task among them."""
    looking = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    looking.add_argument("--task", nargs="?", const="")
    task = looking.parse_known_args(words)[0].task
    if task is None:
        return None
    parser = Parser(
        prog="aconite compare",
        description="Trains one run of `aconite train` with each activation and seed, and compares their metrics. "
        "Stopped at any moment, the same command goes on where it was.",
        argument_default=argparse.SUPPRESS,
    )
    option = parser.add_argument
    option("--task", metavar="TASK", help="classification, detection or segmentation", choices=TASKS)
    option(
        "--activations",
        metavar="A,B,…",
        type=names,
        default=("relu", "swish", "acon-c", "meta-acon"),
        help="names or formulas; none is a foreign network's own (default relu,swish,acon-c,meta-acon)",
    )
    option("--seeds", metavar="N", type=int, default=3, help="runs of each activation (default 3)")
    if task in TASKS:  # else the parser says what is wrong with it
        out = "folder of the comparison (default runs/<data>-<model>-<task>)"
        add_settings(parser, task, without=("activation", "seed"), out=out)
    add_several_options(parser)
    parser.set_defaults(run=_compare_runs)
    return parser


def _compare_runs(arguments: argparse.Namespace) -> int:
    import torch

    from aconite.lab import print_columns
    from aconite.lab.runs import RunsSettings, compare_runs, finish_runs, run_jobs, run_progress, runs_tables
    from aconite.lab.runs import is_first_process as first

    given = vars(arguments).copy()
    shared = settings_of(given)
    several = Several.take(given, lambda: shared.accelerator != "cpu" and torch.cuda.is_available())
    settings = RunsSettings(shared=shared, activations=given["activations"], seeds=given["seeds"])
    folder, kind = given.get("out") or run_folder(shared, shared.model, shared.task), given.get("progress", "auto")

    def tell(text: str) -> None:
        if first() and kind != "quiet":
            print(text, flush=True)

    def whole() -> Path | None:
        found = compare_runs(settings, folder, lambda: run_progress(kind), tell=tell, cluster=several.cluster)
        if not first():
            return None
        for columns in runs_tables(
            settings.metric, settings.baseline, settings.seeds, found.standings, found.rows
        ).values():
            print_columns(columns)
        return found.report

    def some(jobs: Sequence[Any]) -> None:
        finish_runs(jobs, lambda: run_progress(kind), tell)

    return several.run(folder, lambda: run_jobs(settings, folder), some, whole)
