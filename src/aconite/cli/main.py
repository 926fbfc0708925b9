"""`aconite`: the commands, and how each ends.

0 done, 1 problems found (check-data) or images not read (predict), 2 a mistake that the one line on stderr explains,
130 Ctrl-C, 143 SIGTERM while training.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import torch

from aconite.cli import bench, check_data, compare, info, look, search, table, train
from aconite.cli.parser import Parser
from aconite.errors import AconiteError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the process's exit status; ``argv`` is without the program's name."""
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.run(arguments))
    except AconiteError as error:
        return _fail(str(error))
    except (MemoryError, torch.OutOfMemoryError):
        return _fail(
            "out of memory: use a smaller network, --batch-size or --image-size (bench: --shapes); "
            "what was finished stays in place"
        )
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"cannot read or write{where}: {error.strerror or error}; what was finished stays in place")
    except KeyboardInterrupt:
        print("aconite: stopped", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(f"aconite: error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="aconite", description="Learnable activations for PyTorch: which one should your network learn?"
    )
    parser.add_argument("--version", action="version", version=f"aconite {info.version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    compare.add_demo(commands)
    compare.add_compare(commands)
    train.add_train(commands)
    train.add_evaluate(commands)
    train.add_predict(commands)
    search.add_search(commands)
    table.add_table(commands)
    look.add_plot(commands)
    look.add_inspect(commands)
    look.add_explore(commands)
    check_data.add_check_data(commands)
    bench.add_bench(commands)
    info.add_info(commands)
    info.add_build_node(commands)
    return parser
