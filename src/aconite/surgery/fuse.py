"""BatchNorm and the activation after it as one kernel call, in a model that exists."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aconite.errors import SettingsError
from aconite.surgery.changes import Changes
from aconite.surgery.example import run_example
from aconite.surgery.fused import join, restore
from aconite.surgery.pairs import candidates, pairs

__all__ = ["FuseRow", "fuse", "unfuse"]

Action = Literal["fused", "norm through kernel", "left", "unfused"]
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class FuseRow:
    """One BatchNorm of the model, and what became of it."""

    norm: str
    """Its path."""
    activation: str | None = None
    """The path of the activation that follows it."""
    kind: str
    """The classes, "BatchNorm2d + AconC"."""
    action: Action
    reason: str | None = None
    """Why it was not fused with an activation."""


def fuse(
    model: Model,
    example_inputs: Tensor | tuple[Any, ...] | Mapping[str, Any],
    *,
    norms: Literal["all", "paired"] = "all",
    inplace: bool = False,
) -> tuple[Model, Changes[FuseRow]]:
    """Let each BatchNorm compute the activation after it in the same kernel call.

    The pairs come from running the model, not from its source: an activation is fused where it takes a norm's output
    and nothing else does. The attribute tree, Parameter objects and state-dict keys stay; only the class of the two
    modules changes, to a subclass of what it was. `unfuse` is the way back.

    The model runs on the example inputs without gradients, once in the mode it is in and once in the other, since some
    models take other paths in training. Its buffers, modes and torch's and Python's random states are put back.

    Args:
        model: any module.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments. A batch of two or
            more, so that the model also runs in training mode.
        norms: ``"all"`` also sends a BatchNorm without such an activation through the kernel, ``"paired"`` leaves it.
        inplace: change the model itself; otherwise a copy.

    Returns:
        The fused model, and `Changes` with a `FuseRow` for each BatchNorm: what was done, what was left and why.

    Raises:
        SettingsError: nothing to fuse, or the model does not run on the example inputs.

    >>> import torch
    >>> from aconite.nn import AconC
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), AconC(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    >>> fused, changes = fuse(network, torch.randn(2, 3, 16, 16))
    >>> print(changes)
    norm  activation  kind                 action               reason
    1     2           BatchNorm2d + AconC  fused
    4                 BatchNorm2d          norm through kernel  the model returns its output
    2 BatchNorms: 1 fused, 1 norm through kernel
    """
    if norms not in ("all", "paired"):
        raise SettingsError(f"norms={norms!r} is not known; write norms='all' or norms='paired'")
    target = model if inplace else copy.deepcopy(model)
    for module in target.modules():
        restore(module)
    sites = candidates(target)
    note = run_example(target, example_inputs, sites.watch)
    partners, reasons = pairs(sites)
    followers = {call.norm: call.activation for call in reversed(sites.norm_calls)}
    rows: dict[nn.Module, FuseRow] = {}
    for norm in sites.paths:
        if isinstance(norm, _BatchNorm):
            action: Action = "left"
            if norm in partners:
                action = "fused"
            elif norm in followers and norms == "all":
                action = "norm through kernel"
            rows[norm] = _row(sites.paths, norm, followers.get(norm), action, reasons.get(norm))
    if all(row.action == "left" for row in rows.values()):
        raise SettingsError(_nothing(list(rows.values()), norms))
    for norm, row in rows.items():
        if row.action != "left":
            join(norm, partners.get(norm))
    return target, _changes(list(rows.values()), note)


def unfuse(model: Model, *, inplace: bool = False) -> tuple[Model, Changes[FuseRow]]:
    """Undo `fuse`: every module has its own class again, with the weights it has now.

    Raises:
        SettingsError: the model is not fused.

    >>> import torch
    >>> fused, _ = fuse(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), torch.randn(2, 8, 4, 4))
    >>> [type(module).__name__ for module in fused]
    ['FusedBatchNorm2d', 'FusedReLU']
    >>> original, _ = unfuse(fused)
    >>> [type(module).__name__ for module in original]
    ['BatchNorm2d', 'ReLU']
    """
    target = model if inplace else copy.deepcopy(model)
    paths = {module: path for path, module in target.named_modules()}
    partners = {module: module.__dict__.get("fused_activation") for module in paths}
    restored = [module for module in paths if restore(module)]
    rows = [_row(paths, norm, partners[norm], "unfused") for norm in restored if isinstance(norm, _BatchNorm)]
    if not rows:
        raise SettingsError("nothing to unfuse: the model holds no BatchNorm that aconite.fuse has changed")
    return target, _changes(rows, None)


def _row(
    paths: Mapping[nn.Module, str],
    norm: nn.Module,
    activation: nn.Module | None,
    action: Action,
    reason: str | None = None,
) -> FuseRow:
    kind = type(norm).__name__ + (f" + {type(activation).__name__}" if activation else "")
    where = paths.get(activation) if activation else None
    return FuseRow(norm=paths[norm], activation=where, kind=kind, action=action, reason=reason)


def _nothing(rows: list[FuseRow], norms: str) -> str:
    wanted = "nn.BatchNorm1d, 2d or 3d" + (" that is" if norms == "paired" else ", alone or")
    found = "; ".join(f"{row.norm or 'the model'} ({row.kind}): {row.reason}" for row in rows[:3]) or "no BatchNorm"
    more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
    return (
        f"nothing to fuse: looked for {wanted} followed by AconA, AconB, AconC, MetaAconC (channel-wise), nn.ReLU or "
        f"nn.SiLU; found {found}{more}"
    )


def _changes(rows: list[FuseRow], note: str | None) -> Changes[FuseRow]:
    counts = Counter(row.action for row in rows)
    counted = ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
    summary = f"{len(rows)} BatchNorm{'s' if len(rows) != 1 else ''}: {counted}"
    return Changes(rows=tuple(rows), summary=summary, notes=(note,) if note else ())
