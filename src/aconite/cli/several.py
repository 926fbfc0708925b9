"""The trainings of `aconite compare` on several machines: a Ray cluster, or some of them by number."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aconite.errors import SettingsError

if TYPE_CHECKING:
    from aconite.lab import CellJob, Cluster, Job

_Job = TypeVar("_Job", bound="Job")

__all__ = ["Several", "add_several_options", "train_cells"]


def add_several_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the command's."""
    group = parser.add_argument_group("several machines", "They share the folders, at the same paths.")
    option = group.add_argument
    option(
        "--cluster", metavar="ADDRESS", help="train at once, by Ray: local starts it here, auto or HOST:PORT joins it"
    )
    option("--cell-cpus", metavar="N", type=int, help="cores, and threads, of each training there (default 1)")
    option("--cell-gpus", metavar="X", type=float, help="GPUs of each training there (default 1 if it is on a GPU)")
    option("--cells", metavar="N,N-N", help="train these alone, such as 3 or 0-4; without it the command collects all")
    option("--list-cells", action="store_true", help="print the trainings with their numbers")


@dataclass(frozen=True)
class Several:
    """What the options ask for."""

    cluster: Cluster | None
    cells: str | None
    list_cells: bool

    @classmethod
    def take(cls, given: dict[str, Any], gpu: Callable[[], bool]) -> Several:
        """Takes the options away from those given; ``gpu``: whether a training is on a GPU."""
        found = {name: given.pop(name, None) for name in ("cluster", "cell_cpus", "cell_gpus", "cells", "list_cells")}
        cluster = None
        if (address := found["cluster"]) is not None:
            from aconite.lab import Cluster

            if found["cells"] is not None:
                raise SettingsError("--cells trains here and --cluster there: give one of them")
            gpus = found["cell_gpus"] if found["cell_gpus"] is not None else float(gpu())
            cluster = Cluster(address=address, cpus=1 if found["cell_cpus"] is None else found["cell_cpus"], gpus=gpus)
        elif extra := next((name for name in ("cell_cpus", "cell_gpus") if found[name] is not None), None):
            raise SettingsError(f"--{extra.replace('_', '-')} belongs to a cluster: add --cluster local")
        return cls(cluster, found["cells"], bool(found["list_cells"]))

    def run(
        self,
        out: str,
        jobs: Callable[[], Sequence[_Job]],
        some: Callable[[Sequence[_Job]], None],
        whole: Callable[[], Path | None],
    ) -> int:
        """Lists the jobs, does some, or does the whole, which gives the report; returns the exit status."""
        try:
            if self.list_cells:
                for number, job in enumerate(jobs()):
                    print(f"{number:3}  {job.name}")
            elif self.cells is not None:
                every = jobs()
                some([every[at] for at in _numbers(self.cells, len(every))])
            elif (report := whole()) is not None:
                print(f"\nreport: {report}\nrows:   {report.with_name('rows.jsonl')}")
        except (KeyboardInterrupt, SystemExit) as end:
            print(f"\nstopped; the same command goes on from the last finished epoch in {out}", file=sys.stderr)
            return 130 if isinstance(end, KeyboardInterrupt) else int(end.code or 0)
        return 0


def train_cells(jobs: Sequence[CellJob], quiet: bool) -> None:
    """Some cells of a comparison or a study, with their progress."""
    from aconite.lab import finish_cells, progress_for

    with progress_for(quiet) as display:
        finish_cells(jobs, display)


def _numbers(text: str, count: int) -> list[int]:
    """The numbers of a list such as "0-2,7", in their order."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise SettingsError(f"--cells is {text!r}: give numbers, such as 3 or 0-4,7")
        low, high = int(first), int(last if dash else first)
        if not low <= high < count:
            raise SettingsError(f"--cells is {text!r}: there are {count}, from 0 to {count - 1} (see --list-cells)")
        found |= set(range(low, high + 1))
    return sorted(found)
