"""`aconite search`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

__all__ = ["add_search"]


def add_search(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "search",
        help="search for an activation, as Swish was found",
        description="Trains a small network with one function after another, then the best ones again with other "
        "seeds, and reports what they are worth on images that chose nothing. Stopped at any moment, the same command "
        "goes on; started several times at once with the same folder or storage, the processes share the work.",
        argument_default=argparse.SUPPRESS,  # an option that is not given takes SearchSettings' default
    )
    option = parser.add_argument
    option("--space", metavar="NAME", help="core (default: unary and binary functions) or maxout (smooth maxima)")
    option("--depth", metavar="N", type=int, help="core units inside each other (default 1)")
    option("--strategy", metavar="NAME", help="exhaustive (default), random, evolution or tpe")
    option("--trials", metavar="N", type=int, help="functions to try in all (default: no limit)")
    option("--minutes", metavar="X", type=float, help="time to try functions in, before the finals (default: no limit)")
    option("--pruner", metavar="NAME", help="give poor candidates up early: none (default), median or halving")
    option("--finalists", metavar="N", type=int, help="how many of the best are trained again (default 10)")
    option("--seeds", metavar="N", type=int, help="trainings of each finalist (default 5)")
    option("--seed", metavar="N", type=int, help="of the order and of the candidates' trainings (default 0)")
    option("--population", metavar="N", type=int, help="of the evolution (default 50)")
    option("--sample", metavar="N", type=int, help="of the evolution: how many compete to have offspring (default 10)")
    option("--data", metavar="DATA", help="digits (default), mnist5k, a folder with train/<class>/*, test/<class>/*, "
           "or hf:NAME")  # fmt: skip
    option("--model", metavar="NAME", help="the child network (default resnet8)")
    option("--epochs", metavar="N", type=int, help="passes over the training images (default 4)")
    option("--batch-size", metavar="N", type=int, help="images in a step (default 32)")
    option("--lr", metavar="X", type=float, help="learning rate at the start (default 0.1)")
    option("--schedule", metavar="NAME", help="how the rate falls to 0: cosine (default) or linear")
    option("--weight-decay", metavar="X", type=float, help="of weights, not of activations and norms (default 0.0005)")
    option("--label-smoothing", metavar="X", type=float, help="of the training loss (default 0.1)")
    option("--init", metavar="NAME", help="start of p1 and p2: near-swish (default), paper or swish")
    option("--image-size", metavar="N", type=int, help="resize a folder's images to N×N (default: as they are)")
    option("--device", metavar="NAME", help="auto (default), cpu or cuda")
    option("--storage", metavar="URL", help="where the study is shared, as Optuna takes it: sqlite:///FILE, "
           "postgresql://…, mysql://… (default: a journal in the run's folder)")  # fmt: skip
    option("--study", metavar="NAME", help="the study's name in the storage (default search)")
    option("--out", metavar="RUNDIR", help="folder of the run (default runs/search-<data>-<space>)")
    parser.add_argument("--quiet", action="store_true", default=False, help="no progress, only the table")
    parser.set_defaults(run=_search)


def _search(arguments: argparse.Namespace) -> int:
    from aconite.lab.search import SearchSettings, print_search, search

    given = vars(arguments).copy()
    out, quiet = given.pop("out", None), given.pop("quiet")
    place = {name: given.pop(name) for name in ("storage", "study") if name in given}
    del given["run"]
    settings = SearchSettings(**given)
    out = out or _default_folder(settings.data, settings.space)
    try:
        found = search(settings, out, tell=_nothing if quiet else _line, **place)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with the search in {out}", file=sys.stderr)
        return 130
    print_search(settings, found.finalists, found.rows)
    print(f"\nreport: {found.report}\nrows:   {found.report.with_name('rows.jsonl')}")
    return 0


def _line(text: str) -> None:
    print(text, flush=True)


def _nothing(text: str) -> None:
    pass


def _default_folder(data: str, space: str) -> str:
    from aconite.lab.data import data_name

    return f"runs/search-{data_name(data)}-{space}"
