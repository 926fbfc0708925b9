"""Where a model calls activations, found by running it: whose call it is, what it computes, and on which channels."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import ref

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from aconite.surgery.kinds import FUNCTIONS, is_activation, is_sealed, module_of
from aconite.surgery.sites import DESCRIPTIONS
from aconite.surgery.tracking import Tag, Tags, Votes

__all__ = ["Call", "Watch"]

_CALL_IMPL = nn.Module._call_impl.__code__
_CHECKPOINT = torch.utils.checkpoint.checkpoint.__code__.co_filename


@dataclass(eq=False)
class Call:
    """One call of an activation."""

    caller: nn.Module
    """The module whose forward method calls."""
    module: nn.Module | None
    """The module that is called, where it is none of torch's functions."""
    function: str | None
    """The function that is called, such as "relu"."""
    original: nn.Module
    """What it computes."""
    line: tuple[Any, ...]
    """Where in the caller's code it stands."""
    tag: Tag
    shape: tuple[int, ...]
    device: torch.device
    votes: Votes = field(default_factory=Votes)
    checkpointed: bool = False
    """It runs inside torch.utils.checkpoint, which the caller calls."""
    reused: bool = False
    """It works in place, and its input is used again."""
    result: Tensor | None = None
    order: int = field(default_factory=itertools.count().__next__)


@dataclass(eq=False)
class _Running:
    """A module that is running."""

    module: nn.Module
    training: bool
    sealed: bool
    x: Any
    """Its first argument."""
    calls: list[Call] = field(default_factory=list)
    own: Call | None = None
    """The call of this module itself, where it may be an activation."""


class Watch:
    """What the runs of a model show; ``watch`` is to be given to `run_example`."""

    def __init__(self, model: nn.Module, also: tuple[type[nn.Module], ...] = ()) -> None:
        self.model = model
        self.also = also
        """Further classes whose modules are activations."""
        self.runs: dict[nn.Module, list[tuple[bool, tuple[Call, ...]]]] = {}
        """For every forward of a module that calls activations: its mode, and the calls in their order."""
        self.results: dict[bool, Any] = {}
        """What the model returned, by its mode."""
        self.around: dict[nn.Module, set[nn.Module]] = {}
        """For each module: which of those that it calls use an activation function inside."""

    @contextmanager
    def watch(self) -> Iterator[list[Any]]:
        """Gather while the block runs; nothing where it raises."""
        results: list[Any] = []
        run, handles = _Run(self), []
        try:
            for module in self.model.modules():
                if not isinstance(module, torch.jit.ScriptModule):
                    handles += [
                        module.register_forward_pre_hook(run.before, with_kwargs=True),
                        module.register_forward_hook(run.after, with_kwargs=True, always_call=True),
                    ]
            with _Functions(run):
                yield results
        finally:
            for handle in handles:
                handle.remove()
        for value in tree_leaves(results):
            run.uses(value)
        for module, training, calls in run.finished:
            self.runs.setdefault(module, []).append((training, calls))
        self.results[self.model.training] = results[0]


class _Run:
    def __init__(self, watch: Watch) -> None:
        self.around, self.also = watch.around, watch.also
        self.tags = Tags()
        self.running: list[_Running] = []
        self.finished: list[tuple[nn.Module, bool, tuple[Call, ...]]] = []
        self.overwritten: dict[int, tuple[ref[Tensor], Call]] = {}

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        running = _Running(module, module.training, is_sealed(module), _first(args, kwargs))
        # Without parameters and children it may yet turn out to be a function's module.
        leaf = not (module._modules or module._parameters or module._buffers)
        if self._counts(running.x) and (is_activation(module) or leaf):
            running.own = self._call(module, None, module, running.x, 1)
        self.running.append(running)

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        running = self.running.pop()
        own, calls = running.own, running.calls
        if own is not None and (running.sealed or (isinstance(module, self.also) and not calls)):
            self.running[-1].calls.append(own)
            return self.made(own, running.x, output) if isinstance(output, Tensor) else None
        if own is not None and len(calls) == 1 and calls[0].result is output is not None:
            calls[0].result = None
            inner = calls[0]
            inner.caller, inner.module, inner.function, inner.line = own.caller, module, None, own.line
            inner.checkpointed = inner.checkpointed or own.checkpointed
            self.running[-1].calls.append(inner)
        elif own is not None and is_activation(module):
            self.running[-1].calls.append(own)
            return self.made(own, running.x, output) if isinstance(output, Tensor) else None
        elif not running.sealed:
            for call in calls:
                call.result = None
            self.finished.append((module, running.training, tuple(calls)))
        return None

    def function(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an activation function, or any other."""
        if function not in FUNCTIONS:
            return function(*args, **kwargs)
        x = _first(args, kwargs)
        for outer, inner in zip(self.running, self.running[1:], strict=False):
            self.around.setdefault(outer.module, set()).add(inner.module)
        if not self._counts(x):
            return function(*args, **kwargs)
        running = self.running[-1]
        call = self._call(None, FUNCTIONS[function], module_of(function, args, kwargs), x, 0)
        result = self.made(call, x, function(*args, **kwargs))
        running.calls.append(call)
        if running.own is not None and x is running.x:
            call.result = result
        return result

    def _counts(self, x: Any) -> bool:
        """Whether an activation that takes x now is a call site."""
        return (
            isinstance(x, Tensor)
            and x.is_floating_point()
            and bool(self.running)
            and not any(running.sealed for running in self.running)
        )

    def _call(self, module: nn.Module | None, function: str | None, original: nn.Module, x: Any, inner: int) -> Call:
        line, checkpointed = _line(inner)
        return Call(
            caller=self.running[-1].module,
            module=module,
            function=function,
            original=original,
            line=line,
            tag=self.tags.get(x),
            shape=tuple(x.shape),
            device=x.device,
            checkpointed=checkpointed,
        )

    def made(self, call: Call, x: Tensor, result: Tensor) -> Tensor:
        """Tag the activation's result. Where it worked in place it is a new view, so that uses of the input show."""
        if result is x:
            result = x.view_as(x)
            self.overwritten[id(x)] = ref(x), call
        self.tags.put(result, replace(call.tag, votes=call.votes))
        return result

    def uses(self, value: Any) -> None:
        """Note that a tensor is used, perhaps one that an activation has overwritten."""
        known = self.overwritten.get(id(value))
        if known is not None and known[0]() is value:
            known[1].reused = True


def _first(args: Any, kwargs: Any) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def _line(inner_calls: int) -> tuple[tuple[Any, ...], bool]:
    """The lines of code from the caller's forward to the call, and whether torch's checkpoint is on the way.

    ``inner_calls`` is how many modules have been entered between.
    """
    frame, line, checkpointed = sys._getframe(3), [], False
    while frame is not None:
        if frame.f_code is _CALL_IMPL:
            if inner_calls == 0:
                break
            inner_calls -= 1
        checkpointed = checkpointed or frame.f_code.co_filename == _CHECKPOINT
        line.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(line), checkpointed


class _Functions(TorchFunctionMode):
    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = func.__self__.__name__
        if name in DESCRIPTIONS or name.startswith("is_"):
            return func(*args, **kwargs)
        for value in tree_leaves((args, kwargs)):
            self.run.uses(value)
        result = self.run.function(func, args, kwargs)
        if func not in FUNCTIONS:
            self.run.tags.observe(func, args, kwargs, result)
        return result
