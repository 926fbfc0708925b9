"""Learnable activations in the place of a finished model's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from aconite.errors import AconiteError, SettingsError
from aconite.surgery.calls import Watch
from aconite.surgery.callsites import Group, Site, grouped
from aconite.surgery.changes import Changes
from aconite.surgery.deviation import Deviations, output_deviation
from aconite.surgery.dispatch import CountedForward
from aconite.surgery.example import run_example
from aconite.surgery.fused import restore
from aconite.surgery.install import install, obstacle, shield, uncount
from aconite.surgery.selection import Where, classes_in, selected
from aconite.surgery.targets import Target

__all__ = ["ConvertChanges", "ConvertRow", "convert"]

Model = TypeVar("Model", bound=nn.Module)
_NOT_WANTED = "not among where="
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")


@dataclass(frozen=True, kw_only=True)
class ConvertRow:
    """One call site of an activation, and what became of it."""

    site: str
    """The path of the activation module; for a function, of the module that calls it."""
    call: str | None = None
    """Which call, where the path does not say it."""
    was: str
    now: str | None = None
    """The new layer; None where the site is left as it was."""
    channels: int | None = None
    channel_dim: int | None = None
    deviation: float | None = None
    """The largest difference between the new and the old activation on what the site saw."""
    reason: str | None = None
    """Why it was left."""


@dataclass(frozen=True, kw_only=True)
class ConvertChanges(Changes[ConvertRow]):
    """The call sites, and how far the model's output moved."""

    output_deviation: float | None = None
    """The largest difference of the model's output on the example inputs, in evaluation mode where it runs there;
    None where outputs of another shape cannot be compared."""
    output_scale: float | None = None
    """The largest absolute value in the output before."""


def convert(
    model: Model,
    to: str | Callable[..., nn.Module] = "acon-c",
    *,
    example_inputs: Tensor | tuple[Any, ...] | Mapping[str, Any],
    where: Where = "all",
    init: Any = "match",
    inplace: bool = False,
    tolerance: float = 0.01,
    allow_pooling: bool = False,
    **options: Any,
) -> tuple[Model, ConvertChanges]:
    """Put learnable activations in the place of a model's own.

    The call sites come from running the model: activation modules and calls of functions such as ``F.relu`` or
    ``x.relu_()``, with the channels that each of them sees. A module called at several sites becomes several layers.
    The model's class and attributes stay, and so do its weights, their state-dict keys, hooks and modes.
    `deconvert` is the way back.

    Args:
        model: any module, not compiled and not wrapped for several devices yet.
        to: one of `aconite.nn.activations`, or a factory ``channels -> Module`` that takes ``channel_dim=-1`` as well
            if the channels come last somewhere.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments. A batch of two or
            more, so that the model also runs in training mode.
        where: which sites: ``"all"``; ``"paper"``, in bottlenecks only the one after the 3×3 convolution, without
            squeeze-and-excitation and heads; ``"backbone"``, all without these two; a pattern of paths such as
            ``"layer3.*"``; a class of the activation or of the module that calls it; a function of a `Site`; a position
            or slice in the order of the calls; or a list of these.
        init: ``"match"`` starts each layer as the activation that it replaces, ``"paper"``, ``"swish"`` and
            ``"near-swish"`` are for training from scratch.
        inplace: change the model itself; otherwise a copy.
        tolerance: how far a layer that imitates a ReLU or another maximum may be off; picks β = 0.2785 / tolerance.
        allow_pooling: let Meta-ACON average over the positions of sequences.
        options: of the layers' constructor, such as ``r=8``; ``channel_dim`` for sites where nothing shows it.

    Returns:
        The converted model, and `ConvertChanges` with a `ConvertRow` for each call site.

    Raises:
        SettingsError: no site can be converted, an argument is wrong, or the model does not run on the example inputs.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10), nn.SiLU())
    >>> converted, changes = convert(network, example_inputs=torch.ones(2, 3, 8, 8))
    >>> print(converted[1], converted[4])
    AconC(8) AconC(10)
    >>> max(row.deviation for row in changes) <= 0.01
    True
    """
    for module in model.modules():
        if type(module).__name__ in _WRAPPERS:
            raise SettingsError(f"the model is wrapped in {type(module).__name__}: convert it first, then wrap it")
    channel_dim = options.pop("channel_dim", None)
    target = Target(to, init, tolerance, allow_pooling, options)
    converted = model if inplace else copy.deepcopy(model)
    fused = [module for module in converted.modules() if restore(module)]
    before = Watch(converted, classes_in(where))
    note = run_example(converted, example_inputs, before.watch)
    groups = grouped(before, channel_dim)
    plan = _Plan(converted, groups, target, where)
    with plan.kept_on_error():
        # A second time without those that the model does not reach through its attributes.
        for _ in range(2):
            plan.install()
            after, deviations = Watch(converted), Deviations(plan.layers)
            with deviations.measured():
                run_example(converted, example_inputs, after.watch)
            unreached = deviations.unreached()
            if not unreached:
                break
            plan.undo()
            plan.drop(unreached)
    for group in groups:
        if group.module is None and any(site in plan.layers for site in group.sites):
            for module in after.around.get(group.caller, ()):
                shield(module)
    notes = ["the model was fused: it was unfused first" if fused else None, note]
    return converted, _changes(plan, deviations, output_deviation(before.results, after.results), notes)


class _Plan:
    """What comes where, and why nothing comes elsewhere."""

    def __init__(self, model: nn.Module, groups: list[Group], target: Target, where: Where) -> None:
        self.model, self.groups = model, groups
        self.sites = sorted((site for group in groups for site in group.sites), key=lambda site: site.position)
        chosen = set(selected(self.sites, where, model))
        self.callers: dict[nn.Module | None, set[nn.Module]] = {}
        for group in groups:
            self.callers.setdefault(group.module, set()).add(group.caller)
        self.layers: dict[Site, nn.Module] = {}
        self.reasons: dict[Site, str] = {}
        blocked = {site: obstacle(group, self.callers) for group in groups for site in group.sites}
        for site in self.sites:
            reason = (_NOT_WANTED if site not in chosen else None) or site.reason or blocked[site]
            if reason is None:
                try:
                    self.layers[site] = target.layer(site, self._dtype(site))
                except AconiteError as error:
                    reason = str(error)
            if reason is not None:
                self.reasons[site] = reason
        self.check()
        self.trees = [
            (m, dict(m._modules), [value for value in m.__dict__.values() if isinstance(value, CountedForward)])
            for m in model.modules()
        ]

    def _dtype(self, site: Site) -> torch.dtype:
        parameters = (p for module in (site.caller, self.model) for p in module.parameters() if p.is_floating_point())
        return next((p.dtype for p in parameters), torch.get_default_dtype())

    def check(self) -> None:
        """Raise where nothing would be converted."""
        if not self.layers:
            # Those that were wanted come first.
            sites = sorted(self.sites, key=lambda site: self.reasons[site] == _NOT_WANTED)
            found = [f"{_name(site)} ({type(site.original).__name__}): {self.reasons[site]}" for site in sites]
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            listed = ("; found " + "; ".join(found[:3]) + more) if found else ""
            raise SettingsError(f"nothing to convert: no call of an activation could be replaced{listed}")

    def install(self) -> None:
        for group in self.groups:
            layers = {site: self.layers[site] for site in group.sites if site in self.layers}
            if layers:
                install(group, layers, self.callers)

    def drop(self, unreached: list[Site]) -> None:
        """Leave these out after all."""
        for site in unreached:
            del self.layers[site]
            self.reasons[site] = "it is called past the attributes that hold it"
        self.check()

    def undo(self) -> None:
        """Take everything out."""
        for module, children, counted in self.trees:
            module._modules.clear()
            module._modules.update(children)
            uncount(module, counted)

    @contextmanager
    def kept_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.undo()
            if isinstance(error, SettingsError):
                raise SettingsError(f"with the new layers {error}; leave some out with where=") from error
            raise


def _name(site: Site) -> str:
    return " ".join(filter(None, (site.path or "the model", site.call)))


def _changes(
    plan: _Plan, deviations: Deviations, moved: tuple[float, float] | None, notes: list[str | None]
) -> ConvertChanges:
    rows = []
    for site in plan.sites:
        layer = plan.layers.get(site)
        rows.append(
            ConvertRow(
                site=site.path,
                call=site.call or None,
                was=type(site.original).__name__,
                now=None if layer is None else type(layer).__name__,
                channels=site.channels,
                channel_dim=site.channel_dim,
                deviation=deviations.of(site),
                reason=plan.reasons.get(site),
            )
        )
    summary = f"{len(rows)} call site{'s' if len(rows) != 1 else ''}: {len(plan.layers)} converted"
    if left := len(rows) - len(plan.layers):
        summary += f", {left} left"
    if moved is not None:
        summary += f"; the output moved by at most {moved[0]:.2g}, of at most {moved[1]:.2g}"
    else:
        notes.append("the outputs before and after cannot be compared")
    return ConvertChanges(
        rows=tuple(rows),
        summary=summary,
        notes=tuple(note for note in notes if note),
        output_deviation=None if moved is None else moved[0],
        output_scale=None if moved is None else moved[1],
    )
