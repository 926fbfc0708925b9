"""Channel-wise Meta-ACON as one torch operator: pooling, the generator network, and the activation.

It has a CPU kernel only; elsewhere, and under transforms, the layer runs its own modules and `acon_c`. The operator
returns the batch statistics of the inner norms among what it saves, and the layer updates its buffers: an operator
with an autograd rule may not write into its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aconite import kernels, reference
from aconite.kernels import Generator, MetaAconCCall, align, cpu_meta
from aconite.ops.bound import After, Bound
from aconite.ops.library import below_autograd, define, formula_needed, observed, runs_directly, unwatched

__all__ = ["bound_meta_acon_c", "meta_acon_c", "meta_kernel_serves"]

_DIFFERENTIABLE = (
    "Tensor x, Tensor p1, Tensor p2, Tensor fc1_weight, Tensor fc2_weight, Tensor? fc1_bias, Tensor? fc2_bias, "
)
_DIFFERENTIABLE += "Tensor? bn1_weight, Tensor? bn1_bias, Tensor? bn2_weight, Tensor? bn2_bias"
_RUNNING = "Tensor? bn1_mean, Tensor? bn1_var, Tensor? bn2_mean, Tensor? bn2_var"
_OPTIONS = "str norm, float eps1, float eps2, float scale, int channel_dim, str gate"
_COUNT = 11


def _generator(arguments: Sequence[Any]) -> Generator:
    """The operator's arguments between p2 and channel_dim are the record's, in its order."""
    return Generator(*arguments[3:-2])


def _forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    x, p1, p2 = arguments[:3]
    channel_dim, gate = arguments[-2:]
    return kernels.meta_acon_c_forward(x, p1, p2, _generator(arguments), channel_dim=channel_dim, gate=gate)


def _backward(grad: Tensor, saved: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    x, p1, p2 = arguments[:3]
    channel_dim, gate = arguments[-2:]
    found = kernels.meta_acon_c_backward(
        grad, x, p1, p2, _generator(arguments), saved, channel_dim=channel_dim, gate=gate
    )
    return tuple(
        x.new_empty(0) if g is None or t is None else g.to(t.dtype) for g, t in zip(found, arguments, strict=False)
    )


def _formula(*arguments: Any) -> Tensor:
    """The same function in plain torch, for its second derivative."""
    x, p1, p2 = arguments[:3]
    *_, channel_dim, gate = arguments
    g = _generator(arguments)
    c = channel_dim % x.ndim
    wide = torch.promote_types(x.dtype, torch.float32)
    positions = [d for d in range(1, x.ndim) if d != c]
    values = x.to(wide).mean(positions) if positions else x.to(wide)
    layers = (
        (g.fc1_weight, g.fc1_bias, g.bn1_mean, g.bn1_var, g.bn1_weight, g.bn1_bias, g.eps1),
        (g.fc2_weight, g.fc2_bias, g.bn2_mean, g.bn2_var, g.bn2_weight, g.bn2_bias, g.eps2),
    )
    for weight, bias, mean, var, scale, shift, eps in layers:
        values = F.linear(values, weight.flatten(1).to(wide), None if bias is None else bias.to(wide))
        if g.norm == "batch":
            centred = values - values.mean(0)
            values = centred * torch.rsqrt(centred.square().mean(0) + eps)
        elif g.norm == "running":
            assert mean is not None
            assert var is not None
            values = (values - mean) * torch.rsqrt(var + eps)
        if g.norm != "none":
            values = values if scale is None else values * scale
            values = values if shift is None else values + shift
    beta = g.scale * reference.gate_function(gate)(values)
    return reference.acon_c(x, align(p1, x, c), align(p2, x, c), align(beta, x, c), gate)


def _formula_gradient(grad: Tensor, arguments: Sequence[Any]) -> tuple[Tensor, ...]:
    tensors = arguments[:_COUNT]
    with torch.enable_grad():
        held = [t if t is None or t.requires_grad else t.detach().requires_grad_() for t in tensors]
        y = _formula(*held, *arguments[_COUNT:])
        present = [t for t in held if t is not None]
        found = iter(torch.autograd.grad(y, present, grad, create_graph=True))
    return tuple(tensors[0].new_empty(0) if t is None else next(found) for t in held)


class _Rule(torch.autograd.Function):
    """x is the only tensor of its size that is kept."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        tensors = arguments[: _COUNT + 4]
        if unwatched(*tensors):
            x, p1, p2 = arguments[:3]
            y, saved, ctx.call = cpu_meta.meta_forward(x, p1, p2, arguments[3:-2], *arguments[-2:])
        else:
            ctx.call = None
            with below_autograd():
                y, saved = _forward_op(*arguments)
        ctx.save_for_backward(saved, *tensors)
        ctx.options = arguments[_COUNT + 4 :]
        ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)  # else a gradient of zeros is made for `saved`
        return y, saved

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Any, ...]:
        needs = ctx.needs_input_grad
        if grad is None:
            return (None,) * len(needs)
        saved, *tensors = ctx.saved_tensors
        options = ctx.options
        found: Sequence[Tensor | None]
        if not torch.is_grad_enabled() and runs_directly(grad) and unwatched(*tensors):
            x, p1, p2, *weights = tensors
            found = cpu_meta.meta_backward(ctx.call, grad, saved, x, p1, p2, (*weights, *options[:-2]), *options[-2:])
        else:
            found = _backward_op(grad, saved, *tensors, *options)
        # No call of `to` where nothing changes: eleven of them cost as much as the kernel on a small tensor.
        gradients = [
            None if g is None or not n else g if g.dtype is t.dtype else g.to(t.dtype)
            for g, t, n in zip(found, tensors, needs, strict=False)
        ]
        return (*gradients, *(None,) * (len(needs) - _COUNT))


def _backward_autograd(grad: Tensor, saved: Tensor, *arguments: Any) -> Any:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (grad, *arguments[:_COUNT])):
        return _formula_gradient(grad, arguments)
    with below_autograd():
        return _backward_op(grad, saved, *arguments)


def _fake(*arguments: Any) -> tuple[Tensor, Tensor]:
    x, hidden = arguments[0], arguments[3].shape[0]
    n, c = x.shape[0], x.shape[arguments[-2]]
    size = 3 * n * c + n * hidden + 2 * hidden + 2 * c
    return torch.empty_like(x), x.new_empty(size, dtype=torch.promote_types(x.dtype, torch.float32))


def _backward_fake(grad: Tensor, saved: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    x = arguments[0]
    return tuple(x.new_empty(0) if t is None else torch.empty_like(t) for t in arguments[:_COUNT])


_forward_op = define(
    f"meta_acon_c({_DIFFERENTIABLE}, {_RUNNING}, {_OPTIONS}) -> (Tensor, Tensor)",
    kernel=_forward,
    autograd=_Rule.apply,
    fake=_fake,
    device="CPU",
)
_backward_op = define(
    f"meta_acon_c_backward(Tensor grad, Tensor saved, {_DIFFERENTIABLE}, {_RUNNING}, {_OPTIONS}) "
    f"-> ({', '.join(['Tensor'] * _COUNT)})",
    kernel=_backward,
    autograd=_backward_autograd,
    fake=_backward_fake,
    device="CPU",
)


def meta_kernel_serves(x: Tensor, p1: Tensor, p2: Tensor, channel_dim: int) -> bool:
    """Whether the one-operator path can run here and now."""
    if torch.compiler.is_compiling():
        if not kernels.native_serves(x.device) or x.numel() == 0 or torch.compiler.is_exporting():
            return False
        return _samples_outermost(x, channel_dim) and all(_per_channel(p, x, channel_dim) for p in (p1, p2))
    if formula_needed() or observed() or x.numel() == 0:
        return False
    return kernels.supports_meta(x, p1, p2, channel_dim=channel_dim) is None


def _samples_outermost(x: Tensor, channel_dim: int) -> bool:
    """Whether x is dense with the samples first and the channels next to them or last, in words that can be traced."""
    if channel_dim % x.ndim == 0:
        return x.is_contiguous()
    return x.movedim(channel_dim, 1).is_contiguous() or x.movedim(channel_dim, -1).is_contiguous()


def _per_channel(p: Tensor, x: Tensor, channel_dim: int) -> bool:
    channels = x.shape[channel_dim]
    if p.numel() == 1 or p.shape == (channels,):
        return True
    return p.ndim == x.ndim and p.numel() == channels == p.shape[channel_dim]


def meta_acon_c(
    x: Tensor, p1: Tensor, p2: Tensor, generator: Generator, channel_dim: int, gate: str
) -> tuple[Tensor, Tensor]:
    """Meta-ACON and the vector whose parts `aconite.kernels.split_saved` names; where `meta_kernel_serves` says so."""
    run = _forward_op if torch.compiler.is_compiling() else _Rule.apply
    result: tuple[Tensor, Tensor] = run(x, p1, p2, *generator, channel_dim, gate)
    return result


def bound_meta_acon_c(
    x: Tensor, p1: Tensor, p2: Tensor, generator: Generator, channel_dim: int, gate: str, after: Sequence[After]
) -> Bound | None:
    """`meta_acon_c` on inputs like x with these tensors, and what is to be done with the vector that it saves; None
    where it has to go through the operator.
    """
    call = MetaAconCCall.of(x, p1, p2, generator, channel_dim, gate)
    if call is None:
        return None
    tensors, options = (p1, p2, *generator[:12]), (*generator[12:], channel_dim, gate)

    def gradient(grad: Tensor, held: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
        x, *present, saved = held
        every = iter(present)
        every_tensor = [None if t is None else next(every) for t in tensors]
        found = _backward_op(grad, saved, x, *every_tensor, *options)
        wanted = [g for g, t in zip(found, (x, *tensors), strict=False) if t is not None]
        return [g if n else None for g, n in zip(wanted, needs, strict=True)]

    learnt, running = (tuple(t for t in part if t is not None) for part in (tensors[:10], tensors[10:]))
    return Bound(call, learnt, running, gradient, after)
