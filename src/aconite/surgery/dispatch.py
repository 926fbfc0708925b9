"""Several activations where the code names one: a call's turn in the caller's forward tells which of them it means.

`CallSites` holds the activations. The caller's ``forward`` attribute becomes a `CountedForward`, which counts turns
from the start of each forward, on the thread that runs it; so threads, recursion, exceptions and checkpoints of the
whole caller are right, and the caller keeps its class. So does each method that makes some of the calls, since users
call ``forward_features`` alone.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, NoReturn

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aconite.errors import AconiteError, SettingsError
from aconite.surgery.callsites import Group
from aconite.surgery.kinds import FUNCTIONS

__all__ = ["CallSites", "CountedForward"]


class CallSites(nn.ModuleList):
    """The activations of one caller for a module that it calls several times, or for its calls of functions.

    Args:
        activations: one for each site; None for a function call that stays as it is.
        group: the sites, and the order in which their calls come.
    """

    def __init__(self, activations: Sequence[nn.Module | None], group: Group) -> None:
        super().__init__()
        for number, activation in enumerate(activations):
            self.register_module(str(number), activation)
        either = next(iter(group.orders))
        self.orders: dict[tuple[bool, str], tuple[int, ...]] = {}
        """For evaluation and training mode, and the method that the caller was entered by: the site of each call."""
        self.functions: dict[tuple[bool, str], tuple[str, ...]] = {}
        """The names of the functions called, likewise; empty for a module's calls."""
        for mode in (False, True):
            seen = mode if mode in group.orders else either
            order, names = group.orders[seen], group.functions[seen]
            for method, turns in {"forward": tuple(range(len(order))), **group.methods[seen]}.items():
                self.orders[mode, method] = tuple(order[turn] for turn in turns)
                self.functions[mode, method] = tuple(names[turn] for turn in turns) if names else ()
        self.single = {entry: len(set(order)) == 1 for entry, order in self.orders.items()}
        """Whether all calls mean one site, so that their number is free."""
        self.caller = group.caller_path

    def forward(self, x: Tensor) -> Tensor:
        """The activation whose turn it is."""
        turn = _RUNNING.turn
        if any(self.functions.values()):
            self.refuse("the activations of function calls were called as a module, among all children perhaps")
        if turn is None:
            self.refuse("a call came outside of the forward, from torch.utils.checkpoint inside of it perhaps")
        activation = self._modules[str(self.site(turn))]
        assert activation is not None
        result: Tensor = activation(x)
        return result

    def site(self, turn: Turn, function: str | None = None) -> int:
        """The number of the site that is called now."""
        # A method that makes none of this group's calls on the example has no order here.
        order, names = self.orders.get(turn.entry, ()), self.functions.get(turn.entry, ())
        count = turn.counts.get(self, 0)
        turn.counts[self] = count + 1
        if self.single.get(turn.entry) and (function is None or function in names):
            return order[0]
        if count >= len(order) or (function is not None and function != names[count]):
            self.refuse(f"call {count + 1}, of {function or 'a module'}, was not seen on the example inputs")
        return order[count]

    def function_of(self, site: int) -> str:
        """The function that a site takes the place of."""
        entry = next(entry for entry, order in self.orders.items() if site in order)
        return self.functions[entry][self.orders[entry].index(site)]

    def refuse(self, what: str) -> NoReturn:
        """Raise, since another path than the example's would give calls to the wrong activations."""
        raise AconiteError(
            f"the calls in {self.caller or 'the model'} cannot be told apart: {what}; convert on example inputs that "
            "take this path, or leave this module out with where="
        )

    def _replicate_for_data_parallel(self) -> NoReturn:
        # The caller's forward attribute would still hold the original caller, on another device.
        raise SettingsError("nn.DataParallel cannot copy this converted model: use DistributedDataParallel")


class Turn:
    """One running forward, or method called alone: what it has called so far, and the forward around it."""

    def __init__(self, module: nn.Module, method: str, around: Turn | None) -> None:
        self.module, self.entry, self.around = module, (module.training, method), around
        self.counts: dict[CallSites, int] = {}

    def finish(self) -> None:
        """At the end: calls that did not come may have shifted those that came."""
        for sites, count in self.counts.items():
            expected = len(sites.orders.get(self.entry, ()))
            if count != expected and not sites.single.get(self.entry):
                sites.refuse(f"{count} calls came where the example inputs showed {expected}")


class _Running(threading.local):
    turn: Turn | None = None


_RUNNING = _Running()


class CountedForward:
    """The forward of a module that calls `CallSites`, or that callers around it are to be shielded from.

    Args:
        module: the module, whose attribute this becomes.
        method: another of its methods instead, which counts where it is called alone.
    """

    functions: CallSites | None = None
    """The sites of its calls of functions."""

    def __init__(self, module: nn.Module, method: str = "forward") -> None:
        self.module, self.method = module, method
        self.replaced: Callable[..., Any] | None = module.__dict__.get(method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own method."""
        around = _RUNNING.turn
        if self.method != "forward" and around is not None and around.module is self.module:
            return self._forward(*args, **kwargs)
        turn = _RUNNING.turn = Turn(self.module, self.method, around)
        try:
            if self.functions is None:
                result = self._forward(*args, **kwargs)
            else:
                with _Calls(self.functions, turn):
                    result = self._forward(*args, **kwargs)
        finally:
            _RUNNING.turn = around
        turn.finish()
        return result

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.replaced is not None:
            return self.replaced(*args, **kwargs)
        return getattr(type(self.module), self.method)(self.module, *args, **kwargs)

    @property
    def __code__(self) -> CodeType:
        return _COUNTED  # torch.export wants to know

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.replaced or getattr(type(self.module), self.method).__get__(self.module))


class _Calls(TorchFunctionMode):
    """Gives the caller's own calls of activation functions to their sites."""

    def __init__(self, sites: CallSites, turn: Turn) -> None:
        super().__init__()
        self.sites, self.turn = sites, turn

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in FUNCTIONS or _RUNNING.turn is not self.turn:
            return func(*args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()))
        if not x.is_floating_point() or not (torch.compiler.is_compiling() or _called_by_caller(self.sites)):
            return func(*args, **kwargs)
        activation = self.sites._modules.get(str(self.sites.site(self.turn, FUNCTIONS[func])))
        if activation is None:
            return func(*args, **kwargs)
        return activation(x)


_CALL_IMPL = nn.Module._call_impl.__code__
_COUNTED = CountedForward.__call__.__code__
_CHECKPOINT = torch.utils.checkpoint.checkpoint.__code__.co_filename


def _called_by_caller(sites: CallSites) -> bool:
    """Whether the call is the caller's own, and not of a module that was put into it after the conversion."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code is not _CALL_IMPL:
        if frame.f_code is _COUNTED:
            return True
        if frame.f_code.co_filename == _CHECKPOINT:
            sites.refuse("a call came from torch.utils.checkpoint inside of the forward, where the whole module can be")
        frame = frame.f_back
    return False
