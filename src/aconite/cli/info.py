"""`aconite info`: what is here; `aconite build-node`: one thing more. Both need torch alone."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from aconite.provenance import provenance

__all__ = ["add_build_node", "add_info", "environment_report", "version"]


def add_info(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser("info", help="versions and devices, for a bug report")
    parser.set_defaults(run=_info)


def add_build_node(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "build-node",
        help="compile what makes layers faster in Python's own time",
        description="Compiles the layers' autograd node, in half a minute, for the torch and the Python that run this "
        "command, and keeps it in the user's cache, where every later process finds it. It takes about 100 µs off "
        "each layer's training step, which counts on small feature maps. Needs a C++ compiler (CXX names one) and "
        "Python's headers. After an update of torch, run it again; ACONITE_NODE=0 leaves it out.",
    )
    parser.set_defaults(run=_build_node)


def version() -> str:
    """aconite's version as it is installed."""
    try:
        return importlib.metadata.version("aconite")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run from its source)"


def environment_report() -> Mapping[str, str]:
    """What a maintainer asks first: name → value, in the order to print.

    >>> "torch" in environment_report()
    True
    """
    import torch

    report = {name: str(value) for name, value in provenance().items() if value is not None}
    cuda = {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    return report | (cuda or {"cuda": "no device"}) | {"native": _native(), "node": _node()}


def _native() -> str:
    from aconite.kernels import native_library

    library = native_library()
    if not library.available:
        return f"not available, torch's operations run instead: {library.reason}"
    return f"{library.isa} (of {', '.join(library.available_isas)}), threads: {library.threads}"


def _node() -> str:
    from aconite.ops import compiled_node

    node = compiled_node()
    return f"compiled: {node.path}" if node.reason is None else f"not compiled, Python runs instead: {node.reason}"


def _build_node(arguments: argparse.Namespace) -> int:
    from aconite.ops import build_node

    print(f"compiled: {build_node()}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    report = environment_report()
    width = max(map(len, report))
    for name, value in report.items():
        print(f"{name:{width}}  {value}")
    return 0
