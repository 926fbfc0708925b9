"""The compiled form of a bound call: node.cpp, built on request for the torch that is installed, and found again.

A C++ node needs torch's headers and holds for one torch and one Python, so no package can bring it: `build_node`
compiles it here and keeps it in the user's cache. Without it everything works, at Python's price.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aconite.errors import KernelUnavailableError
from aconite.kernels import address
from aconite.kernels.cpu_meta import MetaStatisticsUpdate
from aconite.kernels.norm import StatisticsUpdate
from aconite.ops.bound import Bound

__all__ = ["CompiledNode", "build_node", "compiled", "compiled_node"]

_SOURCE = Path(__file__).with_name("node.cpp")
_IN_C = StatisticsUpdate, MetaStatisticsUpdate
_SWITCH, _CACHE = "ACONITE_NODE", "ACONITE_CACHE"


@dataclass(frozen=True, kw_only=True)
class CompiledNode:
    """The extension as it was found in this process; ``reason`` is None exactly when it runs."""

    path: Path | None = None
    call: Any = None
    reason: str | None = None


def _path() -> Path:
    """Where the extension for this source, torch and Python lies, or would."""
    base = os.environ.get(_CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "aconite"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    facts = (_SOURCE.read_text(encoding="utf-8"), torch.__version__, torch.version.git_version, suffix)
    digest = hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()[:16]
    return Path(base) / f"aconite_node-{digest}{suffix}"


def _load(path: Path) -> Any:
    loader = importlib.machinery.ExtensionFileLoader("aconite_node", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("aconite_node", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module.Call


def _foreign(path: Path) -> bool:
    """Whether others than this user and root may have written the file, which runs in this process."""
    found = path.stat()
    return bool(found.st_mode & 0o022) or found.st_uid not in (0, os.geteuid())


@functools.cache
def compiled_node() -> CompiledNode:
    """The extension, looked for at the first call; ACONITE_NODE=0 leaves it out, ACONITE_CACHE names another folder."""
    if os.environ.get(_SWITCH) == "0":
        return CompiledNode(reason=f"{_SWITCH}=0 is set")
    try:
        path = _path()
        if not os.path.isfile(path):
            return CompiledNode(path=path, reason="not built for this torch and Python: run `aconite build-node`")
        if _foreign(path):
            return CompiledNode(path=path, reason=f"others may write {path}: run `aconite build-node` anew")
        return CompiledNode(path=path, call=_load(path))
    except (OSError, RuntimeError, ImportError, AttributeError) as error:
        return CompiledNode(reason=f"it cannot be loaded: {error}")


def build_node() -> Path:
    """Compile the extension for this torch and this Python, which takes half a minute; return where it lies.

    Raises:
        KernelUnavailableError: no compiler, one that cannot build it, or nowhere to keep it.
    """
    try:
        target = _path()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            _compile(made)
            made.chmod(0o755)
            made.replace(target)
    except (OSError, RuntimeError) as error:
        if isinstance(error, KernelUnavailableError):
            raise
        raise KernelUnavailableError(f"no place to keep the node ({error}); name a folder in {_CACHE}") from error
    compiled_node.cache_clear()
    return target


def _compile(made: Path) -> None:
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("clang++") or "g++"]
    root = Path(torch.__file__).parent
    command = [
        *(*compiler, "-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        f"-I{sysconfig.get_paths()['include']}",
        *(f"-isystem{root / 'include' / part}" for part in ("", "torch/csrc/api/include")),
        *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()),
        *(str(_SOURCE), "-o", str(made), f"-L{root / 'lib'}", "-ltorch_python", "-ltorch_cpu", "-lc10"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise KernelUnavailableError(f"no C++ compiler ({error}); install one, or name it in CXX") from error
    if done.returncode != 0 or not made.exists():
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        said = next((line for line in lines if "error" in line), lines[0])
        raise KernelUnavailableError(f"{compiler[0]} cannot build the node for torch {torch.__version__}: {said}")


def compiled(bound: Bound, question: tuple[Any, ...], x: Tensor) -> Callable[..., Tensor | None] | None:
    """(x, the owner's attributes, its partner) → y, or None and nothing done where the question's answer is no.

    None where the extension is not there, or where Python has to move a norm's buffers.

    Args:
        bound: the call.
        question: what has to be as it was, as `aconite.nn.kept_calls` writes it.
        x: an input that it serves.
    """
    node = compiled_node()
    if node.call is None:
        return None
    updates = []
    for update, saved, start in bound.after:
        if not isinstance(update, _IN_C):
            return None
        offset = start * bound.call.dtype.itemsize
        updates.append((address(update.update), update.rest, saved, offset, update.buffers))
    parts = (tuple(bound.tensors), tuple(bound.read), tuple(updates), bound.gradient, (bound.call, *updates))
    run: Callable[..., Tensor | None] = node.call(question, tuple(bound.call.recipe()), x, parts).run
    return run
