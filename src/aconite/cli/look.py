"""`aconite plot`, `inspect` and `explore`: figures, what a model's activations do, and the page with the sliders."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aconite.whole_file import write_whole

__all__ = ["add_explore", "add_inspect", "add_plot"]


def add_plot(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "plot",
        help="draw activations, or what a finished run has learnt, as PNG, SVG or PDF",
        description="Draws one figure. The file's ending decides its kind: .svg, .png or .pdf; .gif or .mp4 for "
        "learning. `aconite plot FIGURE --help` tells a figure's options.",
    )
    figures = parser.add_subparsers(metavar="FIGURE", required=True)

    def figure(name: str, draw: Callable[[argparse.Namespace], Any], told: str) -> Any:
        added = figures.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
        ending = "gif" if name == "learning" else "svg"
        added.add_argument("--out", metavar="FILE", default=f"{name}.{ending}", help=f"default {name}.{ending}")
        added.set_defaults(run=_plot, draw=draw)
        return added.add_argument

    option = figure("curves", _curves, "activations by name: function, derivative and its bounds")
    option("names", metavar="NAME", nargs="+", help="such as relu, or acon-c:p1=1.2,p2=-0.8,beta=2")
    option("--reach", metavar="X", type=float, default=5.0, help="draw from -X to X (default 5)")
    figure("family", _family, "ACON-C's p1, p2 and β, one at a time, and the bounds of the derivative")
    option = figure("switching", _switching, "ACON-C from the mean to the maximum as β grows")
    option("--p1", metavar="X", type=float, default=1.2, help="slope of the first line (default 1.2)")
    option("--p2", metavar="X", type=float, default=-0.8, help="slope of the second line (default -0.8)")
    option("--betas", metavar="X", type=float, nargs="+", default=[0, 0.1, 0.5, 2, 10], help="default 0 0.1 0.5 2 10")
    figure("pairs", _pairs, "ReLU, PReLU and Maxout, each beside the ACON member that smooths it")
    option = figure("training", _training, "train and test error of a comparison, epoch by epoch")
    option("runs", metavar="RUNDIR", nargs=1, help="a folder that `aconite compare` wrote")
    option = figure("networks", _networks, "test error of each activation from network to network, such as by depth")
    option("runs", metavar="RUNDIR", nargs="+", help="folders that `aconite compare` wrote, one for each network")
    option = figure("learnt", _learnt, "the functions that a network's channels have learnt")
    option("path", metavar="PATH", help="a folder that `aconite compare` wrote, or any checkpoint with p1, p2 and β")
    option("--cell", metavar="NAME", help="a training of the folder (default: the first that learnt an activation)")
    option = figure("beta", _beta, "how β is distributed in the last layer; Meta-ACON's for each of seven images")
    option("path", metavar="RUNDIR", help="a folder that `aconite compare` wrote")
    option("--cell", metavar="NAME", help="a training of the folder (default: the first that learnt an activation)")
    option = figure("learning", _learning, "how the activations of a training are learnt, as a moving picture")
    option("path", metavar="RUNDIR", help="a folder that `aconite compare` wrote")
    option("--cell", metavar="NAME", help="a training of the folder (default: the first that learnt an activation)")
    option("--per-second", metavar="N", type=int, default=4, help="epochs in a second (default 4)")


def add_inspect(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "inspect",
        help="measure what a model's activations do on data: dead units, saturation, offset, non-linearity, β",
        description="Shows a model every image once and writes report.html and layers.json: for each activation layer "
        "dead units, saturation, offset, non-linearity, gradient, and of the ACON family p1, p2, β and their states.",
    )
    option = parser.add_argument
    option(
        "model",
        metavar="MODEL",
        help="a folder that `aconite compare` wrote, a network such as resnet18:activation=acon-c, or "
        "package.module:function",
    )
    option("data", metavar="DATA", nargs="?", help="digits, mnist5k, a folder, or hf:NAME (default: the run's own)")
    option("--cell", metavar="NAME", help="which training of the folder, such as acon-c-seed0")
    option("--weights", metavar="FILE", help="weights for a network or function, of torch.save or safetensors")
    option("--part", metavar="NAME", default="test", help="test (default) or train")
    option("--batch-size", metavar="N", type=int, default=128, help="images at a time (default 128)")
    option("--image-size", metavar="N", type=int, help="resize a folder's images to N×N, for a model of one's own")
    option("--raw", action="store_true", help="pass bytes on as they are, for a model that normalises by itself")
    option("--channel-dim", metavar="D", type=int, default=1, help="-1 for token models (default 1)")
    option("--out", metavar="DIR", default="inspection", help="folder of the report (default inspection)")
    parser.set_defaults(run=_inspect)


def add_explore(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "explore",
        help="open a page with sliders for p1, p2 and β",
        description="Writes the explorer, one HTML page that needs no network, and opens it in the browser.",
    )
    parser.add_argument("--out", metavar="FILE", default="explorer.html", help="default explorer.html")
    parser.add_argument("--no-open", action="store_true", help="write the page, open nothing")
    parser.set_defaults(run=_explore)


def _plot(arguments: argparse.Namespace) -> int:
    from aconite.report import write_figure

    figure = arguments.draw(arguments)
    if figure is not None:  # a moving picture is written by its own
        write_figure(figure, arguments.out)
    print(f"figure: {arguments.out}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from aconite.lab import inspect, inspection_json, inspection_page, print_inspection, subject

    given = subject(
        arguments.model, arguments.data, cell=arguments.cell, weights=arguments.weights,
        image_size=arguments.image_size,
    )  # fmt: skip
    found = inspect(
        given.model, given.data, name=given.name, part=arguments.part, batch_size=arguments.batch_size,
        raw=arguments.raw, channel_dim=arguments.channel_dim,
    )  # fmt: skip
    out = Path(arguments.out)
    inspection_page(found).write(out / "report.html")
    write_whole(out / "layers.json", inspection_json(found))
    print_inspection(found)
    print(f"\nreport: {out / 'report.html'}\nlayers: {out / 'layers.json'}")
    return 0


def _explore(arguments: argparse.Namespace) -> int:
    from aconite.report import write_explorer

    write_explorer(arguments.out)
    print(f"page: {arguments.out}")
    if not arguments.no_open:
        webbrowser.open(Path(arguments.out).resolve().as_uri())
    return 0


def _curves(arguments: argparse.Namespace) -> Any:
    from aconite.report import function_curves

    return function_curves(arguments.names, arguments.reach)


def _family(arguments: argparse.Namespace) -> Any:
    from aconite.report import family_curves

    return family_curves()


def _switching(arguments: argparse.Namespace) -> Any:
    from aconite.report import switching_curves

    return switching_curves(arguments.p1, arguments.p2, arguments.betas)


def _pairs(arguments: argparse.Namespace) -> Any:
    from aconite.report import maxout_pairs

    return maxout_pairs()


def _training(arguments: argparse.Namespace) -> Any:
    from aconite.lab import training_errors
    from aconite.report import training_curves

    return training_curves(*training_errors(arguments.runs[0]))


def _networks(arguments: argparse.Namespace) -> Any:
    from aconite.lab import errors_by_network
    from aconite.report import network_errors

    return network_errors(errors_by_network(arguments.runs))


def _learnt(arguments: argparse.Namespace) -> Any:
    from aconite.lab import learnt_layers
    from aconite.report import activation_curves

    return activation_curves(learnt_layers(arguments.path, arguments.cell))


def _beta(arguments: argparse.Namespace) -> Any:
    from aconite.lab import learnt_beta
    from aconite.report import beta_histograms

    return beta_histograms(learnt_beta(arguments.path, arguments.cell))


def _learning(arguments: argparse.Namespace) -> None:
    from aconite.lab import learnt_epochs
    from aconite.report import write_learning

    write_learning(learnt_epochs(arguments.path, arguments.cell), arguments.out, per_second=arguments.per_second)
