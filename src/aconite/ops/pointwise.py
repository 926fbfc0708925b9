"""One torch operator per pointwise member of the family: schema, kernel or formula, fake and autograd on one screen.

An operator takes its tensors, then ``channel_dim`` and ``gate``. Its backward is an operator as well, so that a
compiled graph holds both; the gradient's own gradient goes through the closed formula in plain torch. None stands for
a parameter's constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aconite.kernels import Call, align, native_serves
from aconite.ops.library import below_autograd, define, formula_needed, runs_directly, unwatched

__all__ = ["Pointwise"]

Tensors = Sequence[Tensor | None]


@dataclass(frozen=True, kw_only=True)
class Pointwise:
    """What distinguishes one member from another.

    Attributes:
        name: of the operator.
        inputs: names of the tensors of the result's shape, the first always present.
        parameters: name → the constant that None stands for.
        formula: the equation over aligned tensors (`aconite.reference`).
        gradient: its closed-form gradient.
        forward: the kernel (`aconite.kernels`): the result, and what the backward kernel may use again.
        backward: the kernel of its gradient, which takes that first.
    """

    name: str
    inputs: tuple[str, ...]
    parameters: dict[str, float]
    formula: Callable[..., Tensor]
    gradient: Callable[..., Sequence[Tensor]]
    forward: Callable[..., tuple[Tensor, Call | None]]
    backward: Callable[..., Sequence[Tensor | None]]

    def register(self) -> tuple[Callable[..., Tensor], Callable[..., Sequence[Tensor]]]:
        """Define the operator; return the function that runs it, and the operator of its gradient."""
        count = len(self.inputs) + len(self.parameters)
        arguments = ", ".join([f"Tensor {n}" for n in self.inputs] + [f"Tensor? {n}" for n in self.parameters])
        options = "int channel_dim, str gate"
        results = ", ".join(["Tensor"] * count)

        class Rule(torch.autograd.Function):
            """The inputs are the only tensors of their size that are kept."""

            @staticmethod
            def forward(ctx: Any, *arguments: Any) -> Tensor:
                *tensors, channel_dim, gate = arguments
                ctx.save_for_backward(*tensors)
                ctx.options = channel_dim, gate
                if unwatched(*tensors):
                    y, ctx.call = self.forward(*arguments)
                    return y
                ctx.call = None
                with below_autograd():
                    result: Tensor = forward_op(*arguments)
                    return result

            @staticmethod
            def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
                return gradient(ctx.call, grad, ctx.saved_tensors, ctx.options, ctx.needs_input_grad[:count])

        def gradient(
            call: Call | None, grad: Tensor, tensors: Tensors, options: tuple[int, str], needs: Sequence[bool]
        ) -> tuple[Any, ...]:
            if not torch.is_grad_enabled() and runs_directly(grad) and unwatched(*tensors):
                # Autograd itself drops what is not needed and turns a gradient into its tensor's dtype.
                return (*self.backward(call, grad, *tensors, *options, needs), None, None)
            found = backward_op(grad, *tensors, *options, needs)
            return (*(g if n else None for g, n in zip(found, needs, strict=True)), None, None)

        def backward_autograd(grad: Tensor, *arguments: Any) -> Any:
            *tensors, channel_dim, gate, needs = arguments
            if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (grad, *tensors)):
                return self._formula_gradient(grad, tensors, channel_dim, gate, needs)
            with below_autograd():
                return backward_op(grad, *arguments)

        def backward_fake(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            *tensors, _, _, needs = arguments
            found = [torch.empty_like(t) if n and t is not None else None for t, n in zip(tensors, needs, strict=True)]
            return self._complete(found, tensors)

        forward_op = define(
            f"{self.name}({arguments}, {options}) -> Tensor",
            kernel=lambda *arguments: self.forward(*arguments)[0],
            autograd=Rule.apply,
            fake=lambda first, *_: torch.empty_like(first),
        )
        backward_op = define(
            f"{self.name}_backward(Tensor grad, {arguments}, {options}, bool[{count}] needs) -> ({results})",
            kernel=self._backward,
            autograd=backward_autograd,
            fake=backward_fake,
        )

        def run(*arguments: Any) -> Tensor:
            if torch.compiler.is_compiling():
                # Opaque in a compiled graph where a kernel beats what the compiler makes of the formula; an exported
                # graph is for machines that do not have this package.
                if native_serves(arguments[0].device) and not torch.compiler.is_exporting():
                    compiled: Tensor = forward_op(*arguments)
                    return compiled
                return self._formula(*arguments)
            if formula_needed():
                return self._formula(*arguments)
            if not torch.is_grad_enabled() and unwatched(*arguments[:count]):
                return self.forward(*arguments)[0]
            result: Tensor = Rule.apply(*arguments)
            return result

        return run, backward_op

    def _aligned(self, tensors: Tensors, channel_dim: int) -> list[Any]:
        inputs, parameters = tensors[: len(self.inputs)], tensors[len(self.inputs) :]
        first = inputs[0]
        assert first is not None
        named = zip(parameters, self.parameters.items(), strict=True)
        return [*inputs, *(value if p is None else align(p, first, channel_dim, name) for p, (name, value) in named)]

    def _formula(self, *arguments: Any) -> Tensor:
        *tensors, channel_dim, gate = arguments
        return self.formula(*self._aligned(tensors, channel_dim), gate)

    def _backward(self, grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, _, _, needs = arguments
        found = self.backward(None, grad, *arguments)
        return self._complete([g if n else None for g, n in zip(found, needs, strict=True)], tensors)

    def _formula_gradient(
        self, grad: Tensor, tensors: Tensors, channel_dim: int, gate: str, needs: Sequence[bool]
    ) -> tuple[Tensor, ...]:
        found = self.gradient(grad, *self._aligned(tensors, channel_dim), gate)
        return self._complete([g if n else None for g, n in zip(found, needs, strict=True)], tensors)

    @staticmethod
    def _complete(found: Sequence[Tensor | None], tensors: Tensors) -> tuple[Tensor, ...]:
        """Gradients in their tensors' shapes and dtypes; an empty one where an operator cannot return None."""
        first = tensors[0]
        assert first is not None
        return tuple(
            first.new_empty(0) if g is None or t is None else g.reshape(t.shape).to(t.dtype)
            for g, t in zip(found, tensors, strict=True)
        )
