"""`aconite info`: what is here. Needs torch alone."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from aconite.provenance import provenance

__all__ = ["add_info", "environment_report", "version"]


def add_info(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser("info", help="versions and devices, for a bug report")
    parser.set_defaults(run=_info)


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
    return report | (cuda or {"cuda": "no device"}) | {"native": _native()}


def _native() -> str:
    from aconite.kernels import native_library

    library = native_library()
    if not library.available:
        return f"not available, torch's operations run instead: {library.reason}"
    return f"{library.isa} (of {', '.join(library.available_isas)}), threads: {library.threads}"


def _info(arguments: argparse.Namespace) -> int:
    report = environment_report()
    width = max(map(len, report))
    for name, value in report.items():
        print(f"{name:{width}}  {value}")
    return 0
