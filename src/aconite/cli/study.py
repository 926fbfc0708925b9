"""`aconite compare --study`: its options, and how it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aconite.cli.several import Several, train_cells
from aconite.errors import SettingsError

__all__ = ["add_study_options", "compare_study"]

_OWN = {"quick": "--quick", "networks": "--networks", "inits": "--inits", "with_se": "--with-se", "depths": "--depths"}
_INSTEAD = {"model": "--networks", "init": "--inits", "se": "--with-se"}


def add_study_options(parser: argparse.ArgumentParser, names: Callable[[str], tuple[str, ...]]) -> None:
    """Adds the options to the command's; ``names`` splits a list of names."""
    group = parser.add_argument_group(
        "a study",
        "Several comparisons with one question, seed by seed. The options above count for all of them, but not "
        "--model, --init and --se, and the defaults are the study's own.",
    )
    option = group.add_argument
    option("--study", metavar="NAME", help="cifar: the paper's claim, the inits, and depth, on --data DIR")
    option("--quick", action="store_true", help="the study's reduced form: an hour where the full one takes a night")
    option("--networks", metavar="A,B,…", type=names, help="train every activation in each of these")
    option("--inits", metavar="A,B,…", type=names, help="starts of learnable activations; the first for --depths")
    option("--with-se", metavar="A,B,…", type=names, help="trained also with SE at each block's end (default relu)")
    option("--depths", metavar="A,B,…", type=names, help="networks of the series over depth; '' for none")


def compare_study(given: dict[str, Any], out: str | None, quiet: bool, several: Several) -> int | None:
    """Runs the study that the options ask for and returns the exit status; None if they ask for none."""
    name = given.pop("study", None)
    if name is None:
        if extra := next((option for option in _OWN if option in given), None):
            raise SettingsError(f"{_OWN[extra]} belongs to a study: add --study cifar")
        return None
    if extra := next((option for option in _INSTEAD if option in given), None):
        raise SettingsError(f"--{extra} is one comparison's: a study has {_INSTEAD[extra]}")
    from aconite.lab import print_study, progress_for, run_study, study_jobs, study_settings
    from aconite.lab.data import data_name

    settings = study_settings(name, **given)
    folder = out or f"runs/{data_name(settings.shared.data)}-study-{name}"

    def whole() -> Path:
        finished = run_study(settings, folder, progress_for(quiet), cluster=several.cluster)
        print_study(settings, finished.findings)
        return finished.report

    return several.run(folder, lambda: study_jobs(settings, folder), lambda jobs: train_cells(jobs, quiet), whole)
