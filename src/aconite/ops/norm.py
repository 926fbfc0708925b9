"""BatchNorm and the activation behind it as torch operators, alone and with Meta-ACON.

They have CPU kernels only; elsewhere, and under transforms, the layers run their own modules. The channels are
dimension 1. An operator with an autograd rule may not write into its arguments: it returns the statistics that it used,
mean and biased variance as float64 (2, C), and the layer updates its buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aconite import kernels, reference
from aconite.errors import KernelUnavailableError
from aconite.kernels import Generator, align, norm
from aconite.kernels.norm import Norm, NormCall, NormMetaCall
from aconite.ops.bound import After, Bound
from aconite.ops.fused import Operator
from aconite.ops.library import formula_needed, observed

__all__ = [
    "batch_norm_acon_c",
    "batch_norm_meta_acon_c",
    "bound_norm",
    "bound_norm_meta",
    "norm_kernel_serves",
]

_CONSTANTS = {
    (value, dtype): torch.tensor(value, dtype=dtype, device="cpu")
    for value in (0.0, 1.0)
    for dtype in (torch.float32, torch.float64)
}


def _constant(value: float, parameter: Tensor | None, x: Tensor) -> Tensor:
    return _CONSTANTS[value, torch.promote_types(x.dtype, torch.float32)] if parameter is None else parameter


def _normed(statistics: Tensor | None, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """BatchNorm in plain torch, in float32 at least; by the batch's own statistics where none are given."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x = x.to(wide)
    dims = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    if statistics is None:
        centred = x - x.mean(dims, keepdim=True)
        z = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
    else:
        mean, var = (s.view(shape) for s in statistics)
        z = ((x - mean) * torch.rsqrt(var + eps)).to(wide)
    z = z if weight is None else z * weight.to(wide).view(shape)
    return z if bias is None else z + bias.to(wide).view(shape)


# ---- ACON-C, ReLU, nothing -------------------------------------------------------------------------------------------


def _forward(
    x: Tensor, weight: Any, bias: Any, p1: Any, p2: Any, beta: Any, mean: Any, var: Any, eps: float, *how: str
) -> tuple[Tensor, ...]:
    activation, gate = how
    slopes = _constant(1.0, p1, x), _constant(0.0, p2, x), _constant(1.0, beta, x)
    return norm.batch_norm_forward(x, Norm(weight, bias, mean, var, eps), *slopes, activation=activation, gate=gate)


def _bind(
    x: Tensor, weight: Any, bias: Any, p1: Any, p2: Any, beta: Any, mean: Any, var: Any, eps: float, *how: str
) -> NormCall | None:
    activation, gate = how
    if any(p is not None and p.shape != x.shape[1:2] for p in (p1, p2, beta)):
        return None  # whose gradient is the sum over the channels
    slopes = _constant(1.0, p1, x), _constant(0.0, p2, x), _constant(1.0, beta, x)
    reads = weight, bias, p1, p2, beta
    try:
        return NormCall(x, Norm(weight, bias, mean, var, eps), slopes, activation=activation, gate=gate, reads=reads)
    except KernelUnavailableError:
        return None


def _backward(
    grad: Tensor, saved: Sequence[Tensor], batch: bool, x: Tensor, weight: Any, bias: Any, *rest: Any
) -> Sequence[Tensor]:
    p1, p2, beta, eps, activation, gate = rest
    slopes = _constant(1.0, p1, x), _constant(0.0, p2, x), _constant(1.0, beta, x)
    found = norm.batch_norm_backward(
        grad, x, Norm(weight, bias, eps=eps), *slopes, saved[0], batch=batch, activation=activation, gate=gate
    )
    if activation != "acon_c":
        return (*found[:3], *(torch.zeros_like(t) for t in slopes))
    return (*found[:3], *(_shaped(g, t) for g, t in zip(found[3:], slopes, strict=True)))


def _shaped(gradient: Tensor, parameter: Tensor) -> Tensor:
    if parameter.shape == gradient.shape:
        return gradient
    return (gradient.sum() if parameter.numel() == 1 else gradient).reshape(parameter.shape)


def _formula(statistics: Tensor | None, x: Tensor, weight: Any, bias: Any, *rest: Any) -> Tensor:
    p1, p2, beta, eps, activation, gate = rest
    z = _normed(statistics, x, weight, bias, eps)
    if activation == "relu":
        return F.relu(z).to(x.dtype)
    if activation == "identity":
        return z.to(x.dtype)
    a, b, c = (v if p is None else align(p, z, 1) for v, p in ((1.0, p1), (0.0, p2), (1.0, beta)))
    return reference.acon_c(z, a, b, c, gate).to(x.dtype)


_NORM = ("Tensor x", "Tensor? weight", "Tensor? bias")
_RUNNING = ("Tensor? mean", "Tensor? var")

_batch_norm_acon_c, _bound_norm = Operator(
    name="batch_norm_acon_c",
    differentiable=(*_NORM, "Tensor? p1", "Tensor? p2", "Tensor? beta"),
    constant=_RUNNING,
    options="float eps, str activation, str gate",
    saved=1,
    forward=_forward,
    backward=_backward,
    bind=_bind,
    formula=_formula,
    sizes=lambda x, *_: [((2, x.shape[1]), torch.float64)],
).register()

# ---- Meta-ACON -------------------------------------------------------------------------------------------------------


def _generator(weights: Sequence[Any], buffers: Sequence[Any], options: Sequence[Any]) -> Generator:
    kind, _, eps1, eps2, scale, _ = options
    return Generator._make((*weights, *buffers, kind, eps1, eps2, scale))


def _meta_forward(*arguments: Any) -> tuple[Tensor, ...]:
    x, weight, bias, p1, p2 = arguments[:5]
    mean, var, *buffers = arguments[13:19]
    options = arguments[19:]
    generator = _generator(arguments[5:13], buffers, options)
    return norm.batch_norm_meta_forward(
        x, Norm(weight, bias, mean, var, options[1]), p1, p2, generator, gate=options[-1]
    )


def _meta_bind(*arguments: Any) -> NormMetaCall | None:
    x, weight, bias, p1, p2 = arguments[:5]
    mean, var, *buffers = arguments[13:19]
    options = arguments[19:]
    if p1.shape != x.shape[1:2] or p2.shape != x.shape[1:2]:
        return None
    try:
        return NormMetaCall(
            x,
            Norm(weight, bias, mean, var, options[1]),
            (p1, p2),
            _generator(arguments[5:13], buffers, options),
            gate=options[-1],
            reads=(*arguments[1:13], *buffers),
        )
    except KernelUnavailableError:
        return None


def _meta_backward(grad: Tensor, saved: Sequence[Tensor], batch: bool, *arguments: Any) -> Sequence[Tensor]:
    x, weight, bias, p1, p2 = arguments[:5]
    options = arguments[17:]
    generator = _generator(arguments[5:13], arguments[13:17], options)
    dx, dweight, dbias, dp1, dp2, *rest = norm.batch_norm_meta_backward(
        *(grad, x, Norm(weight, bias, eps=options[1]), p1, p2, generator, *saved), batch=batch, gate=options[-1]
    )
    return (dx, dweight, dbias, _shaped(dp1, p1), _shaped(dp2, p2), *rest)


def _meta_formula(statistics: Tensor | None, *arguments: Any) -> Tensor:
    x, weight, bias, p1, p2 = arguments[:5]
    kind, eps, eps1, eps2, scale, gate = arguments[17:]
    g = _generator(arguments[5:13], arguments[13:17], arguments[17:])
    z = _normed(statistics, x, weight, bias, eps)
    values = z.mean(list(range(2, z.ndim))) if z.ndim > 2 else z
    layers = (
        (g.fc1_weight, g.fc1_bias, g.bn1_mean, g.bn1_var, g.bn1_weight, g.bn1_bias, eps1),
        (g.fc2_weight, g.fc2_bias, g.bn2_mean, g.bn2_var, g.bn2_weight, g.bn2_bias, eps2),
    )
    for matrix, shift, mean, var, gain, offset, inner_eps in layers:
        values = F.linear(values, matrix.flatten(1).to(z.dtype), None if shift is None else shift.to(z.dtype))
        if kind != "none":
            known = None if kind == "batch" or mean is None or var is None else torch.stack([mean, var])
            values = _normed(known, values, gain, offset, inner_eps)
    beta = scale * reference.gate_function(gate)(values)
    return reference.acon_c(z, align(p1, z, 1), align(p2, z, 1), align(beta, z, 1), gate).to(x.dtype)


def _meta_sizes(*arguments: Any) -> list[tuple[Any, torch.dtype]]:
    x, hidden = arguments[0], arguments[5].shape[0]
    n, c = x.shape[:2]
    size = norm.meta_saved_size(n, c, hidden)
    return [((2, c), torch.float64), (size, torch.promote_types(x.dtype, torch.float32))]


_batch_norm_meta_acon_c, _bound_norm_meta = Operator(
    name="batch_norm_meta_acon_c",
    differentiable=(
        *(*_NORM, "Tensor p1", "Tensor p2", "Tensor fc1_weight", "Tensor fc2_weight"),
        *("Tensor? fc1_bias", "Tensor? fc2_bias"),
        *("Tensor? bn1_weight", "Tensor? bn1_bias", "Tensor? bn2_weight", "Tensor? bn2_bias"),
    ),
    constant=(*_RUNNING, "Tensor? bn1_mean", "Tensor? bn1_var", "Tensor? bn2_mean", "Tensor? bn2_var"),
    options="str norm, float eps, float eps1, float eps2, float scale, str gate",
    saved=2,
    forward=_meta_forward,
    backward=_meta_backward,
    bind=_meta_bind,
    formula=_meta_formula,
    sizes=_meta_sizes,
).register()

# ---- what layers call ------------------------------------------------------------------------------------------------


def norm_kernel_serves(x: Tensor, *parameters: Tensor, meta: bool = False) -> bool:
    """Whether the fused operators can run here and now, with these p1, p2 (and beta, unless `meta`)."""
    if torch.compiler.is_compiling():
        if not kernels.native_serves(x.device) or x.numel() == 0 or torch.compiler.is_exporting():
            return False
        return not meta or x.is_contiguous() or x.movedim(1, -1).is_contiguous()
    return not formula_needed() and not (meta and observed()) and norm.serves_norm(x, *parameters, meta=meta)


def bound_norm(x: Tensor, given: Norm, after: Sequence[After], *behind: Any) -> Bound | None:
    """`batch_norm_acon_c` bound to these arguments, with what is to be done with the statistics; None where it has to
    go through the operator.
    """
    return _bound_norm(_arguments(x, given, *behind), after)


def bound_norm_meta(x: Tensor, given: Norm, after: Sequence[After], *behind: Any) -> Bound | None:
    """`bound_norm` for `batch_norm_meta_acon_c`."""
    return _bound_norm_meta(_meta_arguments(x, given, *behind), after)


def _arguments(x: Tensor, given: Norm, *behind: Any) -> tuple[Any, ...]:
    activation, gate, p1, p2, beta = behind
    weight, bias, mean, var, eps = given
    return x, weight, bias, p1, p2, beta, mean, var, eps, activation, gate


def _meta_arguments(x: Tensor, given: Norm, *behind: Any) -> tuple[Any, ...]:
    p1, p2, generator, gate = behind
    weight, bias, mean, var, eps = given
    *tensors, kind, eps1, eps2, scale = generator
    differentiable = x, weight, bias, p1, p2, *tensors[:8]
    return (*differentiable, mean, var, *tensors[8:], kind, eps, eps1, eps2, scale, gate)


def batch_norm_acon_c(
    x: Tensor,
    given: Norm,
    p1: Tensor | None = None,
    p2: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    activation: str = "acon_c",
    gate: str = "sigmoid",
) -> tuple[Tensor, Tensor]:
    """activation(batch_norm(x)) and the statistics used; None for p1, p2, beta stands for 1, 0, 1 (together SiLU).

    Activations: ``"acon_c"``, ``"relu"``, ``"identity"``.
    """
    y, statistics = _batch_norm_acon_c(*_arguments(x, given, activation, gate, p1, p2, beta))
    return y, statistics


def batch_norm_meta_acon_c(
    x: Tensor,
    given: Norm,
    p1: Tensor,
    p2: Tensor,
    generator: Generator,
    gate: str = "sigmoid",
) -> tuple[Tensor, Tensor, Tensor]:
    """Meta-ACON of batch_norm(x), the statistics used, and the vector that `aconite.kernels.split_saved` names."""
    y, statistics, saved = _batch_norm_meta_acon_c(*_meta_arguments(x, given, p1, p2, generator, gate))
    return y, statistics, saved[x.shape[0] * x.shape[1] :]
