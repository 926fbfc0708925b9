"""Finds libaconite, loads it once and hands it torch's thread pool. A failure is kept as text; nothing here raises."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ABI_VERSION", "Library", "functions", "load"]

ABI_VERSION = 2
OVERRIDE = "ACONITE_LIBRARY"

_pointer, _int32, _int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


@dataclass(frozen=True, kw_only=True)
class Library:
    """The loaded library; `functions` is None exactly when `reason` is not."""

    path: str | None
    abi_version: int | None = None
    isa: str | None = None
    available_isas: tuple[str, ...] = ()
    threads: str = "none"
    reason: str | None = None
    functions: ctypes.CDLL | None = None


def _file() -> Path:
    override = os.environ.get(OVERRIDE)
    if override:
        return Path(override)
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    # An editable installation keeps the built library apart from the sources; the package's path names both folders.
    places = [Path(folder) / f"libaconite.{suffix}" for folder in sys.modules[__package__].__path__]
    return next((place for place in places if place.exists()), places[0])


def _hand_over_threads(functions: ctypes.CDLL) -> str:
    """torch's own pool: a second OpenMP runtime in the process would fight it for the cores."""
    try:
        import torch

        directory = Path(torch.__file__).parent / "lib"
        name = "libtorch_cpu.dylib" if sys.platform == "darwin" else "libtorch_cpu.so"
        pool = ctypes.CDLL(str(directory / name))
        parallel_for = ctypes.cast(pool.torch_parallel_for, _pointer)
        num_threads = ctypes.cast(pool.torch_get_num_threads, _pointer)
    except (OSError, AttributeError) as error:
        return f"one thread (this torch lends no thread pool: {error})"
    functions.aconite_set_threads(parallel_for, num_threads)
    return "torch_parallel_for"


def _declare(functions: ctypes.CDLL) -> None:
    functions.aconite_error.restype = ctypes.c_char_p
    functions.aconite_isa.restype = ctypes.c_char_p
    functions.aconite_available_isas.restype = ctypes.c_char_p
    functions.aconite_set_threads.argtypes = [_pointer, _pointer]
    functions.aconite_set_threads.restype = None
    for name, count in (
        ("aconite_acon_c_forward", 6),
        ("aconite_acon_c_backward", 10),
        ("aconite_smooth_maximum_forward", 5),
        ("aconite_smooth_maximum_backward", 8),
        ("aconite_meta_acon_c_forward", 7),
        ("aconite_meta_acon_c_backward", 9),
        ("aconite_meta_update_statistics", 1),
    ):
        function = getattr(functions, name)
        function.argtypes = [_pointer] * count
        function.restype = _int32
    functions.aconite_meta_saved_size.argtypes = [_int64] * 3
    functions.aconite_meta_saved_size.restype = _int64
    functions.aconite_meta_gradient_size.argtypes = [_int64] * 2
    functions.aconite_meta_gradient_size.restype = _int64


@functools.cache
def load() -> Library:
    """The library of this process, found at the first call; ACONITE_LIBRARY names another file."""
    file = _file()
    path = str(file)
    if not file.exists():
        built = "no C++ compiler at install time, or none that could build it"
        hint = f"{OVERRIDE} names no file" if os.environ.get(OVERRIDE) else built
        return Library(path=None, reason=f"{path} does not exist ({hint})")
    try:
        functions = ctypes.CDLL(path)
        version = int(functions.aconite_abi_version())
        if version != ABI_VERSION:
            reason = f"{path} speaks ABI {version}, this package ABI {ABI_VERSION}: build it anew"
            return Library(path=path, abi_version=version, reason=reason)
        _declare(functions)
        available = tuple(functions.aconite_available_isas().decode().split(","))
        error = functions.aconite_error()
        if error is not None:
            return Library(path=path, abi_version=version, available_isas=available, reason=error.decode())
        return Library(
            path=path,
            abi_version=version,
            isa=functions.aconite_isa().decode(),
            available_isas=available,
            threads=_hand_over_threads(functions),
            functions=functions,
        )
    except (OSError, AttributeError) as error:
        return Library(path=path, reason=f"{path} cannot be loaded: {error}")


def functions() -> ctypes.CDLL:
    """The loaded library, for those who hold a plan: it exists only where the library does."""
    found = load().functions
    assert found is not None
    return found
