"""The exceptions that Aconite raises: one small family, so that a caller can catch all of them at once.

Every message says what came, what was expected and what to write instead. The command line prints the message alone and
exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AconiteError",
    "CheckpointError",
    "DataError",
    "KernelUnavailableError",
    "MissingExtraError",
    "SettingsError",
    "ShapeError",
    "StateDictError",
    "UnknownNameError",
]


class AconiteError(Exception):
    """The root of the family."""


class ShapeError(AconiteError, ValueError):
    """A tensor's shape does not fit the layer or the other tensors."""


class SettingsError(AconiteError, ValueError):
    """An argument or option has a value that is not allowed."""


class UnknownNameError(AconiteError, ValueError):
    """A name (of an activation, a network, a data set) is not known; the message suggests the nearest one.

    >>> str(UnknownNameError("activation", "meta-acn", ["relu", "meta-acon"]))
    "unknown activation 'meta-acn': did you mean 'meta-acon'? known: relu, meta-acon"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        near = difflib.get_close_matches(name.lower().replace("_", "-"), self.known, n=1, cutoff=0.5)
        near = near or difflib.get_close_matches(name.lower(), self.known, n=1, cutoff=0.5)
        hint = f": did you mean {near[0]!r}?" if near else ";"
        super().__init__(f"unknown {kind} {name!r}{hint} known: {', '.join(self.known)}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.kind, self.name, self.known)


class MissingExtraError(AconiteError, ImportError):
    """An optional package is not installed; the message names the extra that brings it.

    >>> str(MissingExtraError("matplotlib", "lab"))
    "this needs matplotlib, which is not installed: pip install 'aconite[lab]'"
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"this needs {package}, which is not installed: pip install 'aconite[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)


class StateDictError(AconiteError, ValueError):
    """A state dict does not belong to any known variant of the layer."""


class DataError(AconiteError):
    """A data set cannot be used as it lies on disk; the message names the file or folder."""


class CheckpointError(AconiteError):
    """A stored run or checkpoint is damaged or belongs to other settings."""


class KernelUnavailableError(AconiteError, RuntimeError):
    """A kernel was asked for by name and cannot run here; the message gives the reason."""
