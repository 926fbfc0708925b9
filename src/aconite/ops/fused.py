"""An operator that keeps its first argument and small vectors: schema, kernel, fake and autograd in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aconite.kernels.norm import NormCall, places
from aconite.ops.library import below_autograd, define, plain

__all__ = ["Operator"]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One fused operator: its arguments are `differentiable`, then `constant` tensors, then `options`.

    Attributes:
        name: of the operator.
        differentiable: schema of the tensors that have a gradient, x first.
        constant: schema of those that have none; forward alone takes the first two, the running mean and variance.
        options: schema of the rest.
        saved: how many vectors the forward returns beside y.
        forward: the kernel: arguments → (y, *saved).
        backward: the kernel of its gradient: (grad, saved, batch, arguments) → a gradient for each differentiable one.
        bind: arguments → the kernel's call, for plain tensors in the order of its own; None where x has to be copied.
        formula: the same in plain torch, with the statistics of a frozen norm (or None), for second derivatives.
        sizes: arguments → numbers in each saved vector, and its dtype.
    """

    name: str
    differentiable: tuple[str, ...]
    constant: tuple[str, ...]
    options: str
    saved: int
    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., Sequence[Tensor]]
    bind: Callable[..., NormCall | None]
    formula: Callable[..., Tensor]
    sizes: Callable[..., list[tuple[Any, torch.dtype]]]

    def register(self) -> Callable[..., tuple[Tensor, ...]]:
        """Define the operator and return the function that runs it.

        Its first argument is a call that was bound to these arguments before, or None.
        """
        count, constants = len(self.differentiable), len(self.constant)
        tensors_end = count + constants
        arguments = ", ".join([*self.differentiable, *self.constant]) + f", {self.options}"
        later = ", ".join([*self.differentiable, *self.constant[2:]]) + f", {self.options}"
        grads, saved_names = ", ".join(["Tensor"] * count), ", ".join(f"Tensor saved{i}" for i in range(self.saved))

        class Rule(torch.autograd.Function):
            """x is the only tensor of its size that is kept."""

            @staticmethod
            def forward(ctx: Any, call: NormCall | None, *arguments: Any) -> tuple[Tensor, ...]:
                tensors = arguments[:tensors_end]
                if call is None and plain(*tensors):
                    call = self.bind(*arguments)
                ctx.call = call
                if call is not None:
                    y, *saved = call.forward(arguments[0])
                else:
                    with below_autograd():
                        y, *saved = forward_op(*arguments)
                # Not the running statistics: the kernel returned what it used, and training may move them meanwhile.
                ctx.save_for_backward(*saved, *tensors[:count], *tensors[count + 2 :])
                ctx.rest = tensors[count] is None, arguments[tensors_end:]
                ctx.mark_non_differentiable(*saved)
                ctx.set_materialize_grads(False)  # else a gradient of zeros is made for what is saved
                return (y, *saved)

            @staticmethod
            def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
                needs = ctx.needs_input_grad
                if grad is None:
                    return (None,) * len(needs)
                held, call = ctx.saved_tensors, ctx.call
                saved, tensors = held[: self.saved], held[self.saved :]
                direct = call is not None and not torch.is_grad_enabled() and plain(grad, *held)
                # The values have not changed (autograd sees to that), but a saved-tensor hook may have moved them.
                if direct and call.places == places(tensors[1:]) and call.strides == tensors[0].stride():
                    every = call.backward(grad, tensors[0], *saved)
                    gradients = (None if t is None else g for g, t in zip(every, tensors, strict=False))
                else:
                    batch, options = ctx.rest
                    found = backward_op(grad, *saved, batch, *tensors, *options)
                    gradients = (g if n else None for g, n in zip(found, needs[1:], strict=False))
                return (None, *gradients, *(None,) * (len(needs) - count - 1))

        def backward_autograd(grad: Tensor, *arguments: Any) -> Any:
            differentiable = arguments[self.saved + 1 :][:count]
            if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (grad, *differentiable)):
                return self._formula_gradient(grad, arguments, count)
            with below_autograd():
                return backward_op(grad, *arguments)

        def fake(*arguments: Any) -> tuple[Tensor, ...]:
            x = arguments[0]
            return (torch.empty_like(x), *(x.new_empty(size, dtype=dtype) for size, dtype in self.sizes(*arguments)))

        def backward_fake(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            differentiable = arguments[self.saved + 1 :][:count]
            return tuple(grad.new_empty(0) if t is None else torch.empty_like(t) for t in differentiable)

        forward_op = define(
            f"{self.name}({arguments}) -> ({', '.join(['Tensor'] * (1 + self.saved))})",
            kernel=self.forward,
            autograd=lambda *arguments: Rule.apply(None, *arguments),
            fake=fake,
            device="CPU",
        )
        backward_op = define(
            f"{self.name}_backward(Tensor grad, {saved_names}, bool batch, {later}) -> ({grads})",
            kernel=self._backward,
            autograd=backward_autograd,
            fake=backward_fake,
            device="CPU",
        )

        def run(call: NormCall | None, *arguments: Any) -> tuple[Tensor, ...]:
            if call is not None and not torch.is_grad_enabled():
                return call.forward(arguments[0])
            compiling = torch.compiler.is_compiling()
            result: tuple[Tensor, ...] = forward_op(*arguments) if compiling else Rule.apply(call, *arguments)
            return result

        return run

    def _backward(self, grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        saved, batch, rest = arguments[: self.saved], arguments[self.saved], arguments[self.saved + 1 :]
        found = self.backward(grad, saved, batch, *rest)
        return tuple(
            grad.new_empty(0) if t is None else g if g.dtype is t.dtype else g.to(t.dtype)
            for g, t in zip(found, rest, strict=False)
        )

    def _formula_gradient(self, grad: Tensor, arguments: Sequence[Any], count: int) -> tuple[Tensor, ...]:
        saved, batch, rest = arguments[: self.saved], arguments[self.saved], arguments[self.saved + 1 :]
        with torch.enable_grad():
            held = [t if t is None or t.requires_grad else t.detach().requires_grad_() for t in rest[:count]]
            y = self.formula(None if batch else saved[0], *held, *rest[count:])
            present = [t for t in held if t is not None]
            found = iter(torch.autograd.grad(y, present, grad, create_graph=True, allow_unused=True))
        return tuple(
            grad.new_empty(0) if t is None else torch.zeros_like(t) if (g := next(found)) is None else g for t in held
        )
