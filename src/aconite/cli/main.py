"""`aconite`: the commands, and how each ends.

0 done, 1 problems found (check-data), 2 a mistake that the one line on stderr explains, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from aconite.cli import bench, check_data, compare, info, look, search, table
from aconite.errors import AconiteError, SettingsError, UnknownNameError

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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other mistake is told."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # here, where this command's options are known; argparse leaves it to the program's parser
            raise UnknownNameError("option", unknown[0].partition("=")[0], self._option_string_actions)
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="aconite", description="Learnable activations for PyTorch: which one should your network learn?"
    )
    parser.add_argument("--version", action="version", version=f"aconite {info.version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    compare.add_demo(commands)
    compare.add_compare(commands)
    search.add_search(commands)
    table.add_table(commands)
    look.add_plot(commands)
    look.add_inspect(commands)
    look.add_explore(commands)
    check_data.add_check_data(commands)
    bench.add_bench(commands)
    info.add_info(commands)
    return parser
