"""`aconite train`, `evaluate` and `predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aconite.lab.runs import RunSettings

__all__ = ["TASKS", "add_evaluate", "add_predict", "add_settings", "add_train", "run_folder", "settings_of"]

TASKS = ("classification", "detection", "segmentation")


def add_train(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "train",
        help="train a network for classification, detection or segmentation, on one device or many",
        description="Trains one network and writes its weights, its row of results and its logs to a folder. Stopped "
        "at any moment, the same command goes on where it was. `aconite train TASK --help` lists every option.",
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True, dest="task")
    for task in TASKS:
        added = tasks.add_parser(
            task,
            help=f"train a network for {task}",
            usage="%(prog)s --data DATA (--epochs N | --steps N) [--recipe NAME] [--config FILE] [OPTION ...]",
            description="Settings come from the defaults, --recipe, --config and the command line; later ones win.",
            argument_default=argparse.SUPPRESS,
        )
        added.set_defaults(run=_train)
        added.fill = partial(add_settings, task=task)  # Lightning takes seconds to import


def add_evaluate(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained network, on its own test images or on another data set",
        description="Measures the network of a run on test images and prints its metrics.",
    )
    option = parser.add_argument
    option("run_folder", metavar="RUNDIR", help="a folder that `aconite train` wrote")
    option("--data", metavar="DATA", help="a data set with the same classes (default: the run's, if it was not moved)")
    option("--checkpoint", metavar="FILE", help="another state than the finished one, such as a file of checkpoints/")
    option("--batch-size", metavar="N", type=int, default=32, help="images at a time (default 32)")
    option("--workers", metavar="N", type=int, default=0, help="processes that read images (default: one)")
    option("--device", metavar="NAME", default="auto", help="auto (default), cpu or cuda")
    option("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_evaluate)


def add_predict(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "predict",
        help="labels, boxes or masks of images, as files and as pictures to look at",
        description="Shows images to the network of a run. Writes predictions.jsonl, a line for each image, a picture "
        "of each with what was found in it, and of a segmentation the masks.",
    )
    option = parser.add_argument
    option("run_folder", metavar="RUNDIR", help="a folder that `aconite train` wrote")
    option("images", metavar="IMAGE", nargs="+", help="image files, or folders of them")
    option("--out", metavar="DIR", default="predictions", help="folder of the results (default predictions)")
    option("--checkpoint", metavar="FILE", help="another state than the finished one, such as a file of checkpoints/")
    option("--threshold", metavar="P", type=float, default=0.5, help="least score of a box that is kept (default 0.5)")
    option("--no-pictures", action="store_true", help="write no pictures")
    option("--device", metavar="NAME", default="auto", help="auto (default), cpu or cuda")
    parser.set_defaults(run=_predict)


def add_settings(
    parser: argparse.ArgumentParser,
    task: str,
    without: Collection[str] = (),
    out: str = "folder of the run (default runs/<data>-<model>-<activation>-seed<seed>)",
) -> None:
    """Adds a run's settings to the parser, but not those that the command sets itself."""
    from aconite.lab.runs import KINDS, options_of, recipes

    option = parser.add_argument
    option("--recipe", metavar="NAME", help=f"named settings: {', '.join(recipes(task))}")
    option("--config", metavar="FILE", help="a TOML file of settings, such as a run's settings.toml")
    option("--out", metavar="RUNDIR", help=out)
    option("--progress", metavar="KIND", help="auto (default), bar, plain or quiet")
    for one in options_of(KINDS[task].settings):
        if one.name in without:
            continue
        name = "--" + one.name.replace("_", "-")
        default = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
        shown = "" if default in (None, "") or default is False else f" (default {default})"
        told = one.told.replace("%", "%%") + shown
        if one.kind is bool:
            option(name, action=argparse.BooleanOptionalAction, help=told)
        else:
            option(name, metavar="|".join(one.choices) or one.name.upper(), help=told)


def _train(arguments: argparse.Namespace) -> int:
    from aconite.lab.runs import is_first_process, run_progress, shown, train

    given = vars(arguments)
    settings, progress = settings_of(given), given.get("progress", "auto")
    out = given.get("out") or run_folder(settings, settings.model, settings.activation or "own", f"seed{settings.seed}")
    try:
        run = train(settings, out, run_progress(progress))
    except (KeyboardInterrupt, SystemExit) as end:
        if is_first_process():
            _note(f"\nstopped; the same command goes on from the last checkpoint in {out}")
        return 130 if isinstance(end, KeyboardInterrupt) else int(end.code or 0)
    if is_first_process():
        if run.row["diverged"]:
            _note("the loss is no longer finite, so the training has ended early: try a lower --lr")
        print(f"{settings.model} with {settings.activation or 'its own activation'}: {shown(run.figures)}\n"
              f"run:  {run.folder}")  # fmt: skip
    return 0


def settings_of(given: Mapping[str, Any]) -> RunSettings:
    """The settings that a parser with `add_settings` was given."""
    from aconite.lab.runs import KINDS, options_of, read_value, resolve

    known = {one.name: one for one in options_of(KINDS[given["task"]].settings)}
    texts = {name: value for name, value in given.items() if name in known}
    values = {
        name: read_value(value, known[name]) if isinstance(value, str) else value for name, value in texts.items()
    }
    return resolve(given["task"], recipe=given.get("recipe"), config=given.get("config"), given=values)


def run_folder(settings: RunSettings, *words: str) -> str:
    """The folder of a run or a comparison that was given none: the data's name and the words."""
    import re

    from aconite.lab.data import data_name

    named = [data_name(settings.data), *words]
    return "runs/" + "-".join(re.sub(r"[^\w.-]+", "_", word)[:60] for word in named)


def _evaluate(arguments: argparse.Namespace) -> int:
    import json
    import math

    from aconite.lab.runs import evaluate, is_first_process

    figures = evaluate(
        arguments.run_folder,
        arguments.data,
        checkpoint=arguments.checkpoint,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        device=arguments.device,
        tell=_note,
    )
    if not is_first_process():
        return 0
    if arguments.json:  # which has no word for NaN, a metric without a value
        print(json.dumps({name: value if math.isfinite(value) else None for name, value in figures.items()}))
        return 0
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):{width}}  {f'{value:.4f}' if math.isfinite(value) else '–'}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from aconite.lab.runs import predict

    made = predict(
        arguments.run_folder,
        arguments.images,
        arguments.out,
        checkpoint=arguments.checkpoint,
        threshold=arguments.threshold,
        pictures=not arguments.no_pictures,
        device=arguments.device,
        tell=_note,
    )
    for problem in made.unreadable:
        print(f"not read: {problem.path}: {problem.reason}", file=sys.stderr)
    print(f"{made.images} images: {made.folder / 'predictions.jsonl'}")
    return 1 if made.unreadable else 0


def _note(text: str) -> None:
    print(text, file=sys.stderr)
