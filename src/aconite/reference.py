"""The paper's equations in plain torch: the truth that every kernel, layer and figure is held against.

Each function broadcasts its arguments as torch does, is differentiable as often as one likes, and computes in float32
at least (float64 if any argument is float64); the result has the first tensor's dtype. `aconite.functional` is the door
with named channel dimensions and checks; import this module where the equation itself is wanted.

Source: Ma, Zhang, Liu, Sun, "Activate or Not: Learning Customized Activation", CVPR 2021 (arXiv 2009.04759), called
"the paper".

Limits. NaN comes only from NaN: at x = ±inf a function returns its limit (p1·x or p2·x, with 0·inf = 0), and β = ±inf
gives the maximum or minimum, where the formulas as printed give NaN. The one exception has no limit: the mean (β = 0)
of +inf and −inf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from aconite.errors import SettingsError

__all__ = [
    "BOUND",
    "DEVIATION",
    "GATES",
    "Scalar",
    "acon",
    "acon_a",
    "acon_b",
    "acon_c",
    "acon_c_bounds",
    "acon_c_derivative",
    "acon_c_gradient",
    "acon_gradient",
    "gate_function",
    "maxout",
    "meta_acon_c",
    "smooth_maximum",
]

Scalar = float | int | Tensor

BOUND = 0.099839320128867
"""max σ(y) + y·σ(y)·σ(−y) − 1, reached at the root y = 2.39935728… of (y − 2)·eʸ = y + 2 (paper, section 3)."""

DEVIATION = 0.278464542761074
"""max u·σ(−u), Lambert's W(1/e): |β| times the largest distance between a smooth and a true maximum of two values."""


def _hard_sigmoid(z: Tensor) -> Tensor:
    return (z + 3).clamp(0, 6) / 6


GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hard": _hard_sigmoid}


def gate_function(gate: str) -> Callable[[Tensor], Tensor]:
    """The function that stands for σ: ``"sigmoid"``, 1 / (1 + e⁻ᶻ), or ``"hard"``, relu6(z + 3) / 6.

    >>> gate_function("hard")(torch.tensor([-3.0, 0.0, 3.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    try:
        return GATES[gate]
    except (KeyError, TypeError):
        raise SettingsError(f"gate={gate!r} is not known; write gate='sigmoid' or gate='hard'") from None


def _lift(x: Tensor, *others: Scalar) -> tuple[Tensor, ...]:
    """All arguments as tensors of the dtype to compute in."""
    dtype = reduce(torch.promote_types, (t.dtype for t in (x, *others) if isinstance(t, Tensor)), torch.float32)
    return tuple(
        t.to(dtype) if isinstance(t, Tensor) else torch.tensor(t, dtype=dtype, device=x.device) for t in (x, *others)
    )


def _finite(t: Tensor) -> Tensor:
    """±inf replaced by the largest finite numbers, so that a later product with 0 is 0."""
    largest = torch.finfo(t.dtype).max
    return t.clamp(-largest, largest)


def _times(value: Tensor, weight: Tensor) -> Tensor:
    """value · weight with ±inf · 0 = 0; its gradient at ±inf goes to the value alone."""
    infinite = value.isinf()
    limit = torch.where(weight == 0, torch.zeros_like(value), value) * weight.detach()
    return torch.where(infinite, limit, _finite(value) * weight)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """a − b with inf − inf = 0."""
    same = a.isinf() & (a == b)
    return torch.where(same, torch.zeros_like(same, dtype=a.dtype), a - b)


def _switch(factor: Tensor, value: Tensor) -> Tensor:
    """z = factor · value, the gate's argument.

    Beyond |z| = 1000 the gate is 0 or 1 in float64 too, so nothing is lost by stopping there; its derivative is then an
    exact 0 that no overflow further up can turn into NaN.
    """
    return _times(value, _finite(factor)).clamp(-1000, 1000)


def smooth_maximum(values: Tensor | Sequence[Tensor], beta: Scalar, dim: int = 0) -> Tensor:
    r"""Smooth maximum of n values (paper, section 3).

    .. math:: S_\beta(x_1, \dots, x_n) = \sum_i x_i e^{\beta x_i} \Big/ \sum_i e^{\beta x_i}

    β → ∞ gives the maximum, β = 0 the arithmetic mean, β → −∞ the minimum; β = ±inf is allowed and has the gradient of
    `torch.amax` or `torch.amin`.

    Args:
        values: a tensor whose dimension ``dim`` holds the values, or a sequence of tensors that broadcast together.
        beta: a number, or a tensor that broadcasts against the result.
        dim: the dimension to reduce. For a sequence: where the tensors are stacked, which the result does not show.

    Returns:
        The values' shape without ``dim``, in their dtype.

    >>> x = torch.tensor([1.0, 2.0, 6.0])
    >>> smooth_maximum(x, 0.0), smooth_maximum(x, float("inf")), smooth_maximum(x, 1.0)
    (tensor(3.), tensor(6.), tensor(5.8957))
    """
    if not isinstance(values, Tensor):
        if len(values) == 0:
            raise SettingsError("smooth_maximum of an empty sequence; pass at least one tensor")
        values = torch.stack(torch.broadcast_tensors(*values), dim)  # type: ignore[no-untyped-call]
    if not -values.ndim <= dim < values.ndim:
        raise SettingsError(f"dim={dim} does not exist in values of shape {tuple(values.shape)}")
    if values.shape[dim] == 0:
        raise SettingsError(f"smooth_maximum of no values: shape {tuple(values.shape)}, dim={dim}")
    x, b = _lift(values.movedim(dim, -1), beta)
    b = b.unsqueeze(-1)
    top, bottom = x.amax(-1, keepdim=True), x.amin(-1, keepdim=True)
    # Halves: the distance of two finite values is finite. Relative to the winner: no exponent is positive.
    anchor = torch.where(b < 0, bottom, top).detach()
    exponent = _times(_difference(x / 2, anchor / 2), _finite(2 * b))
    # Not softmax, whose gradient w·(x − S) is NaN where x − S overflows and w is 0: two calls of exp keep them apart.
    weights = exponent.exp() / exponent.exp().sum(-1, keepdim=True)
    smooth = _times(x, weights).sum(-1)
    sharp = torch.where(b > 0, top, bottom).squeeze(-1)
    # Rounding lets the weights sum to more than 1, too much for the largest numbers.
    overflow = smooth.isinf() & ~x.isinf().any(-1)
    return torch.where(b.isinf().squeeze(-1) | overflow, sharp, smooth).to(values.dtype)


def acon(a: Tensor, b: Tensor, beta: Scalar, gate: str = "sigmoid") -> Tensor:
    r"""Smooth maximum of two functions' values, the general ACON (paper, section 3).

    .. math:: S_\beta(a, b) = (a - b)\,\sigma(\beta(a - b)) + b

    Args:
        a: η_a(x).
        b: η_b(x), of a shape that broadcasts with a.
        beta: switching factor; broadcasts.
        gate: ``"sigmoid"`` or ``"hard"`` (see `gate_function`).

    Returns:
        The broadcast shape, in a's dtype.

    >>> acon(torch.tensor([2.0, -1.0]), torch.tensor([0.0, 3.0]), beta=1.0)
    tensor([1.7616, 2.9281])
    """
    sigma = gate_function(gate)
    a_, b_, beta_ = _lift(a, b, beta)
    z = _switch(2 * beta_, _difference(a_ / 2, b_ / 2))  # halves: the distance of two finite values is finite
    return (_times(a_, sigma(z)) + _times(b_, sigma(-z))).to(a.dtype)


def acon_a(x: Tensor, beta: Scalar = 1.0, gate: str = "sigmoid") -> Tensor:
    r"""ACON-A, the smooth maximum of x and 0, known as Swish; SiLU at β = 1 (paper, section 3, table 1).

    .. math:: f(x) = x\,\sigma(\beta x)

    >>> acon_a(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    """
    return acon_c(x, 1.0, 0.0, beta, gate)


def acon_b(x: Tensor, p2: Scalar = 0.25, beta: Scalar = 1.0, gate: str = "sigmoid") -> Tensor:
    r"""ACON-B, the smooth maximum of x and p2·x: smooth PReLU (paper, section 3, table 1; its p is our p2).

    .. math:: f(x) = (1 - p_2)x\,\sigma(\beta(1 - p_2)x) + p_2 x

    >>> acon_b(torch.tensor([-1.0, 0.0, 1.0]), p2=0.25)
    tensor([-0.4906,  0.0000,  0.7594])
    """
    return acon_c(x, 1.0, p2, beta, gate)


def acon_c(x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar = 1.0, gate: str = "sigmoid") -> Tensor:
    r"""ACON-C, the smooth maximum of p1·x and p2·x (paper, section 3).

    .. math:: f(x) = (p_1 - p_2)x\,\sigma(\beta(p_1 - p_2)x) + p_2 x

    Computed as x·(p1·σ(z) + p2·σ(−z)), z = β(p1 − p2)x, which is the same and stays exact where p1 = p2.

    Args:
        x: input of any shape.
        p1: slope for x → ∞ (β(p1 − p2) > 0); broadcasts.
        p2: slope for x → −∞; broadcasts.
        beta: switching factor: 0 the mean (p1 + p2)x/2, large the maximum; broadcasts.
        gate: ``"sigmoid"`` or ``"hard"`` (see `gate_function`).

    Returns:
        The broadcast shape, in x's dtype.

    >>> acon_c(torch.tensor([-1.0, 0.0, 1.0]), p1=1.2, p2=-0.8, beta=1.0)
    tensor([0.5616, 0.0000, 0.9616])
    """
    sigma = gate_function(gate)
    x_, p1_, p2_, beta_ = _lift(x, p1, p2, beta)
    z = _switch(beta_, _times(x_, _finite(p1_ - p2_)))
    return _times(x_, p1_ * sigma(z) + p2_ * sigma(-z)).to(x.dtype)


def _gate_pair(z: Tensor, gate: str) -> tuple[Tensor, Tensor]:
    """∂S/∂a and its rest: with S = a·σ(z) + b·σ(−z), z = β(a − b), the derivative by a is σ(z) + z·σ'(z), by b one
    minus that.

    Returns that derivative by a, and σ'(z).
    """
    up = gate_function(gate)(z)
    steep = up * torch.sigmoid(-z) if gate == "sigmoid" else ((z > -3) & (z < 3)).to(z.dtype) / 6
    return up + z * steep, steep


def acon_gradient(
    grad: Tensor, a: Tensor, b: Tensor, beta: Scalar, gate: str = "sigmoid"
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The gradients of `acon` by a, b and beta in closed form, each in its argument's shape; differentiable again.

    .. math:: \partial_a = g\,(\sigma(z) + z\sigma'(z)), \quad \partial_b = g - \partial_a, \quad
              \partial_\beta = g\,(a - b)^2 \sigma'(z), \qquad z = \beta(a - b)

    >>> one = torch.ones(())
    >>> acon_gradient(one, 2 * one, one, 0.0)
    (tensor(0.5000), tensor(0.5000), tensor(0.2500))
    """
    g, a_, b_, beta_ = _lift(grad, a, b, beta)
    difference = _finite(_difference(a_, b_))
    share, steep = _gate_pair(_switch(beta_, difference), gate)
    return (
        (g * share).sum_to_size(a_.shape),
        (g * (1 - share)).sum_to_size(b_.shape),
        (g * steep * difference * difference).sum_to_size(beta_.shape),
    )


def acon_c_gradient(
    grad: Tensor, x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar, gate: str = "sigmoid"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""The gradients of `acon_c` by x, p1, p2, beta in closed form, each in its argument's shape; differentiable again.

    .. math:: \partial_x = g\,(p_1 s + p_2 (1 - s)), \quad \partial_{p_1} = \sum g x s, \quad
              \partial_{p_2} = \sum g x (1 - s), \quad \partial_\beta = \sum g\,((p_1 - p_2)x)^2 \sigma'(z)

    with s = σ(z) + z·σ'(z), z = β(p1 − p2)x, and sums over what the parameter was broadcast along.

    >>> one = torch.ones(())
    >>> acon_c_gradient(one, one, 1.0, 0.0, 0.0)
    (tensor(0.5000), tensor(0.5000), tensor(0.5000), tensor(0.2500))
    """
    g, x_, p1_, p2_, beta_ = _lift(grad, x, p1, p2, beta)
    x_ = _finite(x_)
    distance = _finite(_finite(p1_ - p2_) * x_)
    share, steep = _gate_pair(_switch(beta_, distance), gate)
    # From the left: a share of 0 must meet x before anything has overflowed.
    return (
        (g * (p1_ * share + p2_ * (1 - share))).sum_to_size(x_.shape),
        (g * share * x_).sum_to_size(p1_.shape),
        (g * (1 - share) * x_).sum_to_size(p2_.shape),
        (g * steep * distance * distance).sum_to_size(beta_.shape),
    )


def acon_c_derivative(x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar = 1.0) -> Tensor:
    r"""First derivative of ACON-C by x (paper, section 3).

    .. math:: f'(x) = (p_1 - p_2)\bigl(\sigma(z) + z\,\sigma(z)\,\sigma(-z)\bigr) + p_2, \qquad z = \beta(p_1 - p_2)x

    >>> acon_c_derivative(torch.tensor([-100.0, 0.0, 100.0]), p1=1.2, p2=-0.8)
    tensor([-0.8000,  0.2000,  1.2000])
    """
    x_, p1_, p2_, beta_ = _lift(x, p1, p2, beta)
    difference = _finite(p1_ - p2_)
    z = _switch(beta_, _times(x_, difference))
    up, down = torch.sigmoid(z), torch.sigmoid(-z)
    return (p1_ * up + p2_ * down + difference * (z * up * down)).to(x.dtype)


def acon_c_bounds(p1: Scalar, p2: Scalar) -> tuple[Tensor, Tensor]:
    r"""The least and the greatest derivative of ACON-C over all x, for any finite β ≠ 0 (paper, section 3).

    .. math:: \min f' \approx 1.0998\,p_{lo} - 0.0998\,p_{hi}, \qquad \max f' \approx 1.0998\,p_{hi} - 0.0998\,p_{lo}

    with p_hi, p_lo the greater and the lesser of p1 and p2. β sets how fast they are approached, not what they are.

    >>> acon_c_bounds(1.0, 0.0)
    (tensor(-0.0998), tensor(1.0998))
    """
    first = p1 if isinstance(p1, Tensor) else torch.as_tensor(float(p1))
    p1_, p2_ = _lift(first, p2)
    high, low = torch.maximum(p1_, p2_), torch.minimum(p1_, p2_)
    overshoot = BOUND * (high - low)
    return (low - overshoot).to(first.dtype), (high + overshoot).to(first.dtype)


def maxout(x: Tensor, p1: Scalar, p2: Scalar) -> Tensor:
    r"""The Maxout member that ACON-C smooths (paper, table 1): ReLU at (1, 0), PReLU at (1, p).

    .. math:: f(x) = \max(p_1 x, p_2 x)

    >>> maxout(torch.tensor([-2.0, 2.0]), 1.0, 0.25)
    tensor([-0.5000,  2.0000])
    """
    x_, p1_, p2_ = _lift(x, p1, p2)
    return torch.maximum(_times(x_, p1_), _times(x_, p2_)).to(x.dtype)


def meta_acon_c(
    x: Tensor,
    p1: Scalar,
    p2: Scalar,
    fc1_weight: Tensor,
    fc1_bias: Tensor | None,
    fc2_weight: Tensor,
    fc2_bias: Tensor | None,
    beta_scale: float = 1.0,
    gate: str = "sigmoid",
) -> Tensor:
    r"""Channel-wise Meta-ACON without inner norms: ACON-C whose β comes from the input (paper, section 3).

    .. math:: \beta = s\,\sigma\bigl(W_2 (W_1\,\operatorname{mean}_{hw} x + b_1) + b_2\bigr)

    Args:
        x: (N, C, *).
        p1: slopes, broadcast against x.
        p2: slopes, broadcast against x.
        fc1_weight: W1, (h, C).
        fc1_bias: b1, (h,) or None.
        fc2_weight: W2, (C, h).
        fc2_bias: b2, (C,) or None.
        beta_scale: s.
        gate: stands for σ both in the generator and in the activation.

    >>> x = torch.ones(1, 2, 4)
    >>> meta_acon_c(x, 1.0, 0.0, torch.zeros(1, 2), None, torch.zeros(2, 1), None)[0, 0, 0]  # β = σ(0) = 0.5: σ(0.5)
    tensor(0.6225)
    """
    x_, w1, w2 = _lift(x, fc1_weight, fc2_weight)
    pooled = x_.flatten(2).mean(2) if x.ndim > 2 else x_
    hidden = torch.nn.functional.linear(pooled, w1, None if fc1_bias is None else fc1_bias.to(w1.dtype))
    logits = torch.nn.functional.linear(hidden, w2, None if fc2_bias is None else fc2_bias.to(w2.dtype))
    beta = beta_scale * gate_function(gate)(logits)
    return acon_c(x, p1, p2, beta.reshape(*beta.shape, *(1,) * (x.ndim - 2)), gate)
