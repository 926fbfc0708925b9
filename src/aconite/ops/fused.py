"""An operator that keeps its first argument and small vectors: schema, kernel, fake and autograd in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aconite.kernels.norm import NormCall
from aconite.ops.bound import After, Bound
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

    def register(self) -> tuple[Callable[..., tuple[Tensor, ...]], Callable[..., Bound | None]]:
        """Define the operator; return the function that runs it, and one that binds it to arguments: these, and what
        is to be done with the saved vectors.
        """
        count, constants = len(self.differentiable), len(self.constant)
        tensors_end = count + constants
        arguments = ", ".join([*self.differentiable, *self.constant]) + f", {self.options}"
        later = ", ".join([*self.differentiable, *self.constant[2:]]) + f", {self.options}"
        grads, saved_names = ", ".join(["Tensor"] * count), ", ".join(f"Tensor saved{i}" for i in range(self.saved))

        class Rule(torch.autograd.Function):
            """x is the only tensor of its size that is kept."""

            @staticmethod
            def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
                tensors = arguments[:tensors_end]
                call = self.bind(*arguments) if plain(*tensors) else None
                if call is not None:
                    y, *saved = call.forward(arguments[0])
                else:
                    with below_autograd():
                        y, *saved = forward_op(*arguments)
                # Not the running statistics: the kernel returned what it used, and training may move them meanwhile.
                ctx.save_for_backward(*tensors[:count], *tensors[count + 2 :], *saved)
                ctx.rest = tensors[count] is None, arguments[tensors_end:]
                ctx.mark_non_differentiable(*saved)
                ctx.set_materialize_grads(False)  # else a gradient of zeros is made for what is saved
                return (y, *saved)

            @staticmethod
            def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
                needs = ctx.needs_input_grad
                if grad is None:
                    return (None,) * len(needs)
                batch, options = ctx.rest
                found = gradient(grad, ctx.saved_tensors, needs, batch, options)
                return (*found, *(None,) * (len(needs) - count))

        def gradient(
            grad: Tensor, held: Sequence[Any], needs: Sequence[bool], batch: bool, options: Sequence[Any]
        ) -> list[Tensor | None]:
            tensors, saved = held[: -self.saved], held[-self.saved :]
            found = backward_op(grad, *saved, batch, *tensors, *options)
            return [g if n else None for g, n in zip(found, needs, strict=False)]

        def bound(arguments: Sequence[Any], after: Sequence[After]) -> Bound | None:
            call = self.bind(*arguments)
            if call is None:
                return None
            tensors, batch, options = arguments[1:tensors_end], arguments[count] is None, arguments[tensors_end:]
            read = (*tensors[: count - 1], *tensors[count + 1 :])  # without the running statistics, as above

            def bound_gradient(grad: Tensor, held: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
                x, *present = held
                every = iter(present)
                tensors = [None if t is None else next(every) for t in read]
                asked = iter(needs[1:])
                wanted = [needs[0], *(t is not None and next(asked) for t in tensors[: count - 1])]
                found = gradient(grad, [x, *tensors, *every], wanted, batch, options)
                return [g for g, t in zip(found, [x, *tensors], strict=False) if t is not None]

            learnt, others = read[: count - 1], read[count - 1 :]
            return Bound(
                call,
                tuple(t for t in learnt if t is not None),
                tuple(t for t in others if t is not None),
                bound_gradient,
                after,
            )

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
            autograd=Rule.apply,
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

        def run(*arguments: Any) -> tuple[Tensor, ...]:
            result: tuple[Tensor, ...]
            result = forward_op(*arguments) if torch.compiler.is_compiling() else Rule.apply(*arguments)
            return result

        return run, bound

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
