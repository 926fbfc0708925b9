"""Where a BatchNorm's output goes, found by running the model and following its tensors.

Three observers see what one alone would miss: module hooks tell whose call it is, a torch-function mode sees calls that
change nothing (dropout in evaluation returns its input), a dispatch mode sees what C++ does below Python.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aconite.surgery.hooks import has_hooks

__all__ = ["DESCRIPTIONS", "NormCall", "Sites"]


@dataclass(eq=False)
class NormCall:
    """One call of a norm, and what became of its output."""

    norm: nn.Module
    activation: nn.Module | None = None
    """The activation that took the output first."""
    elsewhere: str | None = None
    """Where else the output went."""


@dataclass(eq=False)
class Sites:
    """The calls of these norms and activations, gathered over any number of runs."""

    paths: dict[nn.Module, str]
    """Every module of the model that is looked at."""
    norms: Collection[nn.Module]
    activations: Collection[nn.Module]
    norm_calls: list[NormCall] = field(default_factory=list)
    activation_calls: list[tuple[nn.Module, NormCall | None]] = field(default_factory=list)
    """Each call of an activation, with the norm's call whose output it took."""

    @contextmanager
    def watch(self) -> Iterator[list[Any]]:
        """Gather while the block runs, which hands over what the model returned; nothing where it raises."""
        results: list[Any] = []
        run = _Run(self)
        handles = []
        try:
            for module in self.paths:
                if not isinstance(module, torch.jit.ScriptModule):
                    handles += [
                        module.register_forward_pre_hook(run.before, with_kwargs=True),
                        module.register_forward_hook(run.after, with_kwargs=True, always_call=True),
                    ]
            with _Functions(run.used), _Operators(run.used):
                yield results
        finally:
            for handle in handles:
                handle.remove()
        run.finish(results)


class _Run:
    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.hooked = {module for module in sites.paths if has_hooks(module)}
        self.norm_calls: list[NormCall] = []
        self.activation_calls: list[tuple[nn.Module, NormCall | None]] = []
        self.outputs: dict[int, tuple[ref[Tensor], NormCall]] = {}
        self.inside: list[nn.Module] = []  # the modules that are running
        self.taken: list[NormCall | None] = []  # for each activation that is running: the call whose output it took

    def _call(self, value: Any) -> NormCall | None:
        """The norm's call that made this very tensor; weakly held, so that a big model's outputs do not pile up."""
        known = self.outputs.get(id(value))
        return known[1] if known is not None and known[0]() is value else None

    def used(self, values: Any, by: Callable[[], str]) -> None:
        for value in tree_leaves(values):
            call = self._call(value) if isinstance(value, Tensor) else None
            if call is not None and call.elsewhere is None and call not in self.taken:
                where = self.sites.paths[self.inside[-1]] if self.inside else ""
                call.elsewhere = f"its output goes to {by()}" + (f" in {where}" if where else "")

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.inside.append(module)
        path = self.sites.paths[module]
        if module in self.sites.activations:
            call = self._call(args[0]) if len(args) == 1 and not kwargs else None
            if call is not None and call.activation is not None:
                call.elsewhere = call.elsewhere or f"its output also goes to {path}"
            elif call is not None:
                call.activation = module
            self.activation_calls.append((module, call))
            self.taken.append(call)
        elif module in self.hooked and module not in self.sites.norms:
            self.used((args, kwargs), lambda: f"hooks of {path or 'the model'}")

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.inside.pop()
        if module in self.sites.activations:
            call = self.taken.pop()
            if call is not None and output is args[0]:  # in place: whoever uses it now wants the activated values
                del self.outputs[id(output)]
        elif module in self.sites.norms and isinstance(output, Tensor):
            call = NormCall(module)
            self.norm_calls.append(call)
            self.outputs[id(output)] = ref(output), call
        elif module in self.hooked:
            self.used(output, lambda: f"hooks of {self.sites.paths[module] or 'the model'}")

    def finish(self, results: list[Any]) -> None:
        """What is still alive after the run is among the results or kept somewhere."""
        for value in tree_leaves(results):
            call = self._call(value)
            if call is not None:
                call.elsewhere = call.elsewhere or "the model returns its output"
        free = [(made, call) for made, call in self.outputs.values() if call.elsewhere is None]
        if any(made() is not None for made, _ in free):
            gc.collect()
        for made, call in free:
            if made() is not None:
                call.elsewhere = "its output is kept after the call"
        self.sites.norm_calls += self.norm_calls
        self.sites.activation_calls += self.activation_calls


DESCRIPTIONS = {
    "__len__", "device", "dim", "dtype", "get_device", "grad_fn", "layout", "ndim", "numel", "requires_grad", "shape",
    "size", "stride",
}  # fmt: skip
"""What an activation does not change, so that looking at it is no use of the values; so is everything named is_…"""

_Used = Callable[[Any, Callable[[], str]], None]


class _Functions(TorchFunctionMode):
    def __init__(self, used: _Used) -> None:
        super().__init__()
        self.used = used

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = func.__self__.__name__
        if name not in DESCRIPTIONS and not name.startswith("is_"):
            self.used((args, kwargs), lambda: resolve_name(func) or name)
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, used: _Used) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.used = used

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.used((args, kwargs), lambda: str(func))
        return func(*args, **kwargs)
