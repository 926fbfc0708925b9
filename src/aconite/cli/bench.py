"""`aconite bench`: what an activation costs here, in SiLU's time. Needs torch alone."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from aconite.errors import SettingsError
from aconite.whole_file import write_whole

__all__ = ["add_bench"]


def add_bench(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "bench",
        help="time the activations against ReLU, SiLU and the published formulas",
        description="Times each activation in rounds with its peers, forward and forward with backward, and prints the "
        "median ratio to SiLU's time in the same round. Leave the machine idle meanwhile.",
    )
    option = parser.add_argument
    option("--shapes", metavar="S", nargs="+", type=_shape, help="such as 32x64x56x56 (default: six typical ones)")
    option("--dtypes", metavar="D", nargs="+", default=["float32", "bfloat16"], help="default float32 bfloat16")
    option("--layouts", metavar="L", nargs="+", default=["contiguous", "channels_last"], help="default both")
    option("--passes", metavar="P", nargs="+", default=["forward", "training"], help="default both")
    option("--seconds", metavar="X", type=float, default=4.0, help="for each line of the table (default 4)")
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
    from aconite.provenance import provenance

    if not 0 < arguments.seconds < math.inf:
        raise SettingsError(f"--seconds {arguments.seconds}: expected a positive number")
    rows: list[dict[str, Any]] = []
    shown: list[str] = []
    for case in bench.cases(arguments.shapes or bench.SHAPES, arguments.dtypes, arguments.layouts, arguments.passes):
        found = bench.measure(case, seconds=arguments.seconds, compiled=arguments.compiled)
        names = [row["contender"] for row in found]
        if names != shown:
            print(
                f"\n{'shape':18}{'dtype':10}{'layout':15}{'passes':10}{'silu ms':>9}"
                + "".join(f"{n:>{_width(n)}}" for n in names)
            )
            shown = names
        silu = next(row["ms"][1] for row in found if row["contender"] == "silu")
        line = f"{'x'.join(map(str, case.shape)):18}{case.dtype:10}{case.layout:15}{case.passes:10}{silu:9.3f}"
        print(line + "".join(f"{row['to_silu'][1]:{_width(row['contender'])}.2f}" for row in found), flush=True)
        rows += found
    if arguments.out:
        origin = {"provenance": provenance() | {"native": native_library().isa}}
        lines = "".join(json.dumps(row | origin) + "\n" for row in rows)
        write_whole(Path(arguments.out), lines.encode())
        print(f"\nrows: {arguments.out}")
    return 0


def _width(name: str) -> int:
    return max(8, len(name) + 2)
