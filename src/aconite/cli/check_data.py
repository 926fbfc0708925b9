"""`aconite check-data`: what is wrong with a data set, before a training finds it at night."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_check_data"]


def add_check_data(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "check-data",
        help="find what is wrong with a data set: missing files, boxes outside, truncated images, …",
        description="Looks at every file of a data set for classification, detection or segmentation, lists what is "
        "wrong with file and reason, and counts it. Exits with 0 if nothing is, 1 if something is, 2 if the folder is "
        "no data set. Nothing is changed.",
    )
    option = parser.add_argument
    option("data", metavar="DATA", help="the folder, whose layout is found out; or hf:NAME, a data set of Hugging Face")
    option("--task", metavar="NAME", help="classification, detection or segmentation (default: by the layout)")
    option("--full", action="store_true", help="decode every image, not only its header and end")
    option("--allow-empty", action="store_true", help="images without objects are in order (detection)")
    option("--ignore-index", metavar="N", type=int, default=255, help="value of pixels of no class in masks "
           "(default 255)")  # fmt: skip
    option("--workers", metavar="N", type=int, default=0, help="processes that share the work (default: one)")
    option("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_check_data)


def _check_data(arguments: argparse.Namespace) -> int:
    from aconite.lab.data import check_data

    found = check_data(
        arguments.data,
        arguments.task,
        full=arguments.full,
        allow_empty=arguments.allow_empty,
        ignore_index=arguments.ignore_index,
        workers=arguments.workers,
    )
    print(found.json() if arguments.json else found.text())
    return 1 if found.problems else 0
