"""Where a measurement comes from: versions, commit, device. No folder, host or user is named."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["provenance"]


@cache
def provenance(device: str = "cpu", packages: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a row of results holds beside its numbers.

    Args:
        device: "cpu" or "cuda": whose model is named.
        packages: further packages whose versions matter, such as ("lightning",).

    >>> sorted(provenance())
    ['aconite', 'commit', 'device', 'instructions', 'python', 'system', 'threads', 'torch']
    """
    return {
        "aconite": _version("aconite"),
        "commit": _commit(Path(__file__)),
        "torch": torch.__version__,
        **{package: _version(package) for package in packages},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(source: Path) -> str | None:
    """The commit of the checkout that this file is part of, "-dirty" with changes; None once it is installed."""
    root = source.resolve().parents[2]
    if not (root / ".git").exists() or not (root / "src" / "aconite").is_dir():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
