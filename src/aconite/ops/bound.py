"""A kernel's call that was bound to its tensors before, under autograd: the shortest way from a layer to the kernel.

In the middle of a network a Python instruction costs twice what it costs in a loop, and two dozen calls of small
functions more than the kernel on a small map. Hence no argument here that can be bound before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aconite.kernels import BoundCall
from aconite.ops.library import runs_directly

__all__ = ["After", "Bound"]

_grad_enabled = torch.is_grad_enabled


class After(NamedTuple):
    """What is done with a tensor that the kernel returned beside y, such as statistics that a norm's buffers follow.

    Attributes:
        update: takes it.
        saved: which of them it is.
        start: the element from which on the update takes it.
    """

    update: Callable[[Tensor], None]
    saved: int = 0
    start: int = 0

    def __call__(self, beside: Sequence[Tensor]) -> None:
        tensor = beside[self.saved]
        self.update(tensor[self.start :] if self.start else tensor)


@dataclass(frozen=True, slots=True)
class Bound:
    """An operator's call, bound to where its tensors lie.

    Attributes:
        call: the kernel's.
        tensors: those behind x that have a gradient, in the order of the call's.
        read: those that the gradient reads as well.
        gradient: does what the kernel's call cannot, such as a gradient that has a gradient: (grad, held, needs) → a
            gradient or None for x and each of `tensors`; held are x, `tensors`, `read`, and what the kernel returned
            beside y.
        after: what is done with what the kernel returned beside y.
    """

    call: BoundCall
    tensors: tuple[Tensor, ...]
    read: tuple[Tensor, ...]
    gradient: Callable[[Tensor, Sequence[Tensor], Sequence[bool]], Sequence[Tensor | None]]
    after: Sequence[After] = ()

    def run(self, x: Tensor) -> Tensor:
        """y, for an x that lies as the call's."""
        if _grad_enabled():
            y: Tensor = _Rule.apply(self, x, *self.tensors)
            return y
        found = self.call.forward(x)
        for after in self.after:
            after(found[1:])
        return found[0]


class _Rule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bound: Bound, x: Tensor, *tensors: Tensor) -> Tensor:
        y, *beside = bound.call.forward(x)
        ctx.bound = bound
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *tensors, *bound.read, *beside)
        for after in bound.after:
            after(beside)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        bound = ctx.bound
        if grad is None:
            return (None,) * (2 + len(bound.tensors))
        held = ctx.saved_tensors
        # The values have not changed (autograd sees to that), but a saved-tensor hook may have moved them.
        if not _grad_enabled() and runs_directly(grad) and runs_directly(held[0]) and bound.call.stays(held):
            return (None, *bound.call.backward(grad, *held))
        return (None, *bound.gradient(grad, held, ctx.needs_input_grad[1:]))
