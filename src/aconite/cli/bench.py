"""`aconite bench`: what an activation costs here, alone, behind a BatchNorm and in a network. Needs torch alone."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from aconite.errors import SettingsError
from aconite.whole_file import write_whole

__all__ = ["add_bench"]

Rows = list[dict[str, Any]]
Lines = Iterator[Callable[[], Rows]]
"""What measures each line of the table."""


def add_bench(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "bench",
        help="time the activations against ReLU, SiLU and the published formulas",
        description="Times contenders in rounds and prints median ratios to the first peer's time in the same round: "
        "activations alone to SiLU; BatchNorm with the activation behind it to BatchNorm + ReLU; networks to the ReLU "
        "network. Leave the machine idle meanwhile.",
    )
    option = parser.add_argument
    option("subject", nargs="?", choices=list(_SUBJECTS), default="activations", help="default activations")
    option("--shapes", metavar="S", nargs="+", type=_shape, help="such as 32x64x56x56; of networks 16x3x224x224")
    option("--dtypes", metavar="D", nargs="+", help="default float32 bfloat16, and float32 for norms")
    option("--layouts", metavar="L", nargs="+", help="contiguous, channels_last; default both")
    option("--passes", metavar="P", nargs="+", help="forward, training; of networks step, inference; default both")
    option("--networks", metavar="N", nargs="+", default=["shufflenetv2_x0_5"], help="default shufflenetv2_x0_5")
    option("--seconds", metavar="X", type=float, help="for each line of the table (default 4, networks 90)")
    option("--repeats", metavar="N", type=int, default=1, help="keep, of N times, the one with the fastest peer")
    option("--compiled", action="store_true", help="time torch.compile of the published formula, too")
    option("--out", metavar="FILE", help="write the rows with their provenance, as JSON lines")
    parser.set_defaults(run=_bench)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in text.split("x"))
    except ValueError:
        shape = ()
    if len(shape) < 2 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write 32x64x56x56")
    return shape


def _bench(arguments: argparse.Namespace) -> int:
    from aconite import bench
    from aconite.kernels import native_library
    from aconite.ops import compiled_node
    from aconite.provenance import provenance

    seconds = arguments.seconds
    if seconds is not None and not 0 < seconds < math.inf:
        raise SettingsError(f"--seconds {seconds}: expected a positive number")
    if arguments.repeats < 1:
        raise SettingsError(f"--repeats {arguments.repeats}: expected 1 or more")
    bench.keep_freed_memory()
    subject, ratio, peer = _SUBJECTS[arguments.subject]
    origin = {"provenance": provenance() | {"native": native_library().isa, "node": compiled_node().reason is None}}
    lines, shown = "", list[str]()

    def peer_ms(rows: Rows) -> float:
        return float(next(row["ms"][1] for row in rows if row["contender"] == peer))

    for measure in subject(arguments):
        found = min((measure() for _ in range(arguments.repeats)), key=peer_ms)
        names = [row["contender"] for row in found]
        if names != shown:
            head = f"\n{'shape':18}{'dtype':10}{'layout':15}{'passes':10}{peer + ' ms':>13}"
            print(head + "".join(f"{n:>{_width(n)}}" for n in names))
            shown = names
        first = found[0]
        shape = "x".join(map(str, first["shape"]))
        line = f"{shape:18}{first['dtype']:10}{first['layout']:15}{first['passes']:10}{peer_ms(found):13.3f}"
        print(line + "".join(f"{row[ratio][1]:{_width(row['contender'])}.2f}" for row in found), flush=True)
        lines += "".join(json.dumps(row | origin) + "\n" for row in found)
        if arguments.out:  # anew each time, so that what was measured stays if the run is cut off
            write_whole(Path(arguments.out), lines.encode())
        bench.give_back_freed_memory()
    if arguments.out:
        print(f"\nrows: {arguments.out}")
    return 0


def _width(name: str) -> int:
    return max(8, len(name) + 2)


def _refuse(arguments: argparse.Namespace, *options: str) -> None:
    for option in options:
        if getattr(arguments, option):
            raise SettingsError(f"--{option} means nothing to `aconite bench {arguments.subject}`: leave it out")


def _four(shapes: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
    for shape in shapes:
        if len(shape) != 4:
            raise SettingsError(f"--shapes {'x'.join(map(str, shape))}: expected four dimensions, such as 16x64x56x56")
    return shapes


def _activations(arguments: argparse.Namespace) -> Lines:
    from aconite import bench

    cases = bench.cases(
        arguments.shapes or bench.SHAPES,
        arguments.dtypes or ("float32", "bfloat16"),
        arguments.layouts or ("contiguous", "channels_last"),
        arguments.passes or ("forward", "training"),
    )
    for case in cases:
        yield partial(bench.measure, case, seconds=arguments.seconds or 4.0, compiled=arguments.compiled)


def _norms(arguments: argparse.Namespace) -> Lines:
    from aconite import bench

    _refuse(arguments, "passes")
    for dtype in arguments.dtypes or ("float32",):
        for layout in arguments.layouts or ("contiguous", "channels_last"):
            for shape in _four(arguments.shapes or bench.NORM_SHAPES):
                yield partial(
                    bench.measure_norms,
                    shape,
                    layout,
                    dtype=dtype,
                    seconds=arguments.seconds or 4.0,
                    compiled=arguments.compiled,
                )


def _networks(arguments: argparse.Namespace) -> Lines:
    from aconite import bench

    _refuse(arguments, "dtypes")
    for name in arguments.networks:
        for shape in _four(arguments.shapes or ((16, 3, 224, 224), (64, 3, 224, 224))):
            for layout in arguments.layouts or ("contiguous", "channels_last"):
                for passes in arguments.passes or bench.NETWORK_PASSES:
                    yield partial(
                        bench.measure_networks,
                        name,
                        shape,
                        layout=layout,
                        passes=passes,
                        seconds=arguments.seconds or 90.0,
                        compiled=arguments.compiled,
                    )


_SUBJECTS: dict[str, tuple[Callable[[argparse.Namespace], Lines], str, str]] = {
    "activations": (_activations, "to_silu", "silu"),
    "norms": (_norms, "to_bn_relu", "bn + relu"),
    "networks": (_networks, "to_relu", "relu"),
}
