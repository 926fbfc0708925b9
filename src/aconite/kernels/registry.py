"""Which kernels exist here, and why another does not: frozen records, for `aconite info` and for error messages."""

from __future__ import annotations

from dataclasses import dataclass

from ._library import load

__all__ = ["Kernel", "NativeLibrary", "kernels", "native_library"]


@dataclass(frozen=True, kw_only=True)
class NativeLibrary:
    """The CPU library as it was found in this process; ``reason`` is None exactly when it can run."""

    path: str | None
    abi_version: int | None
    isa: str | None
    available_isas: tuple[str, ...]
    threads: str
    reason: str | None

    @property
    def available(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One implementation: its devices and dtypes, and the reason if it is absent."""

    name: str
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    reason: str | None

    @property
    def available(self) -> bool:
        return self.reason is None


def native_library() -> NativeLibrary:
    """What `aconite info` prints about the CPU library."""
    library = load()
    return NativeLibrary(
        path=library.path,
        abi_version=library.abi_version,
        isa=library.isa,
        available_isas=library.available_isas,
        threads=library.threads,
        reason=library.reason,
    )


def kernels() -> tuple[Kernel, ...]:
    """Every implementation of the family, the preferred first."""
    return (
        Kernel(
            name="native",
            devices=("cpu",),
            dtypes=("float32", "bfloat16", "float16", "float64"),
            reason=load().reason,
        ),
    )
