"""The way back from `convert`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from aconite.errors import SettingsError
from aconite.surgery.changes import Changes
from aconite.surgery.dispatch import CallSites
from aconite.surgery.fused import restore
from aconite.surgery.install import installed, original_of, remove

__all__ = ["DeconvertRow", "deconvert"]

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class DeconvertRow:
    """One layer that `convert` had put in, and what is in its place again."""

    site: str
    """The path of the activation module; for a function, of the module that calls it."""
    was: str
    """The layer that is taken out."""
    now: str
    """The activation module or function."""
    dropped: int
    """How many values of the layer's parameters go with it."""


def deconvert(model: Model, *, inplace: bool = False) -> tuple[Model, Changes[DeconvertRow]]:
    """Undo `convert`: the original activations, calls of functions and attributes are back.

    What the layers have learnt since is dropped, and the table counts it; every other weight stays as it is now. After
    a second conversion of the same sites it is the first original that comes back.

    Raises:
        SettingsError: the model is not converted.

    >>> import torch
    >>> from aconite.surgery import convert
    >>> converted, _ = convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), example_inputs=torch.zeros(2, 4))
    >>> original, changes = deconvert(converted)
    >>> original[1]
    ReLU()
    >>> print(changes)
    site  was    now   dropped
    1     AconC  ReLU  24
    1 layer taken out; 24 learnt values are dropped
    """
    target = model if inplace else copy.deepcopy(model)
    rows = [row for path, module in installed(target) for row in _rows(path, module)]
    if not rows:
        raise SettingsError("nothing to deconvert: the model holds no layer that aconite.convert has put in")
    fused = [module for module in target.modules() if restore(module)]
    notes = ("the model was fused: it was unfused first",) if fused else ()
    remove(target)
    values = sum(row.dropped for row in rows)
    summary = f"{len(rows)} layer{'s' if len(rows) != 1 else ''} taken out; {values:,} learnt values are dropped"
    return target, Changes(rows=tuple(rows), summary=summary, notes=notes)


def _rows(path: str, module: nn.Module) -> Iterator[DeconvertRow]:
    original = original_of(module)
    for number, layer in enumerate(module._modules.values() if isinstance(module, CallSites) else [module]):
        if layer is None or layer is original:
            continue
        if original is not None:
            now = type(original).__name__
        else:
            assert isinstance(module, CallSites)
            now = f"{module.function_of(number)}()"
        yield DeconvertRow(
            site=path if original is not None else path.rpartition(".")[0],
            was=type(layer).__name__,
            now=now,
            dropped=sum(parameter.numel() for parameter in layer.parameters()),
        )
