"""The ACON family as functions of tensors, with named channel dimensions and checked shapes.

Parameters (p1, p2, beta) may be numbers or tensors of these shapes, seen from an input x:

============================  ===========================================================
shape                         meaning
============================  ===========================================================
() or a number                one value for all
(C,)                          one per channel, C = ``x.shape[channel_dim]``
(N, C), x of more dimensions  one per sample and channel
x.ndim dimensions             broadcasts as it stands: (1, C, 1, 1), (N, C, 1, 1), per pixel
============================  ===========================================================

Results have x's dtype; half types compute in float32. The equations are in `aconite.reference`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aconite import ops, reference
from aconite.errors import SettingsError, ShapeError
from aconite.kernels import Generator, align, channel_index
from aconite.reference import Scalar, acon_c_bounds

__all__ = [
    "acon",
    "acon_a",
    "acon_b",
    "acon_c",
    "acon_c_bounds",
    "acon_c_derivative",
    "maxout",
    "meta_acon_c",
    "smooth_maximum",
]


def _check_input(x: Tensor, name: str = "x") -> None:
    if not isinstance(x, Tensor):
        raise SettingsError(f"{name} is {type(x).__name__}, expected a torch.Tensor; write torch.as_tensor({name})")
    if not x.is_floating_point():
        raise SettingsError(f"{name} has dtype {x.dtype}, expected a floating dtype; write {name}.float()")


def _parameter(value: Scalar, constant: float, x: Tensor) -> Tensor | None:
    """A parameter as the operators take it: a tensor, or None for the constant that they know."""
    if isinstance(value, Tensor):
        return value
    if value == constant:
        return None
    return torch.tensor(float(value), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)


def smooth_maximum(values: Tensor | Sequence[Tensor], beta: Scalar, dim: int = 0) -> Tensor:
    """Smooth maximum of n values: see `aconite.reference.smooth_maximum` (paper, section 3).

    >>> import torch
    >>> smooth_maximum([torch.tensor(1.0), torch.tensor(5.0)], beta=0.0)
    tensor(3.)
    """
    for i, value in enumerate([values] if isinstance(values, Tensor) else values):
        _check_input(value, "values" if isinstance(values, Tensor) else f"values[{i}]")
    return reference.smooth_maximum(values, beta, dim)


def acon(a: Tensor, b: Tensor, beta: Scalar = 1.0, *, channel_dim: int = 1, gate: str = "sigmoid") -> Tensor:
    """Smooth maximum of two functions' values, (a − b)·σ(β(a − b)) + b (paper, section 3).

    Args:
        a: η_a(x), (N, C, *).
        b: η_b(x), of a's shape.
        beta: number, (C,), (N, C) or a's shape.
        channel_dim: where a's channels are.
        gate: ``"sigmoid"`` or ``"hard"``.

    Raises:
        ShapeError: a and b differ in shape, or beta fits neither.

    >>> import torch
    >>> acon(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 3.0]]))
    tensor([[1.7616, 2.9281]])
    """
    _check_input(a, "a")
    _check_input(b, "b")
    if a.shape != b.shape:
        raise ShapeError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; both must be values of one input")
    reference.gate_function(gate)
    return ops.acon(a, b, _parameter(beta, 1.0, a), channel_dim, gate)


def acon_a(x: Tensor, beta: Scalar = 1.0, *, channel_dim: int = 1, gate: str = "sigmoid") -> Tensor:
    """ACON-A, Swish: x·σ(βx) (paper, table 1).

    >>> import torch
    >>> acon_a(torch.tensor([[-1.0, 1.0]]), torch.tensor([1.0, 2.0]))
    tensor([[-0.2689,  0.8808]])
    """
    return acon_c(x, 1.0, 0.0, beta, channel_dim=channel_dim, gate=gate)


def acon_b(x: Tensor, p2: Scalar = 0.25, beta: Scalar = 1.0, *, channel_dim: int = 1, gate: str = "sigmoid") -> Tensor:
    """ACON-B, smooth PReLU: (1 − p2)x·σ(β(1 − p2)x) + p2·x (paper, table 1).

    >>> import torch
    >>> acon_b(torch.tensor([[-1.0, 1.0]]), p2=0.25)
    tensor([[-0.4906,  0.7594]])
    """
    return acon_c(x, 1.0, p2, beta, channel_dim=channel_dim, gate=gate)


def acon_c(
    x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar = 1.0, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> Tensor:
    """ACON-C: (p1 − p2)x·σ(β(p1 − p2)x) + p2·x (paper, section 3).

    Args:
        x: input, floating dtype, any shape that has ``channel_dim``.
        p1: slope on the side that is switched on.
        p2: slope on the other side.
        beta: switching factor.
        channel_dim: where x's channels are; −1 for transformers, −3 for unbatched images.
        gate: ``"sigmoid"`` or ``"hard"``, the piecewise linear relu6(z + 3)/6.

    Returns:
        x's shape and dtype.

    Raises:
        ShapeError: a parameter does not fit x.
        SettingsError: x is not a floating tensor, or the gate is unknown.

    >>> import torch
    >>> x = torch.tensor([[-1.0, 0.0, 1.0]])
    >>> acon_c(x, p1=1.2, p2=-0.8, beta=torch.ones(3))
    tensor([[0.5616, 0.0000, 0.9616]])
    """
    # Questions asked here rather than in the functions that answer them: a call costs what a small tensor does.
    if not isinstance(x, Tensor) or not x.is_floating_point():
        _check_input(x)
    if gate != "sigmoid":
        reference.gate_function(gate)
    return ops.acon_c(
        x,
        p1 if isinstance(p1, Tensor) else _parameter(p1, 1.0, x),
        p2 if isinstance(p2, Tensor) else _parameter(p2, 0.0, x),
        beta if isinstance(beta, Tensor) else _parameter(beta, 1.0, x),
        channel_dim,
        gate,
    )


def acon_c_derivative(x: Tensor, p1: Scalar, p2: Scalar, beta: Scalar = 1.0, *, channel_dim: int = 1) -> Tensor:
    """First derivative of ACON-C by x (paper, section 3); `acon_c_bounds` gives its extremes.

    >>> import torch
    >>> acon_c_derivative(torch.zeros(1, 2), p1=torch.tensor([1.0, 1.5]), p2=0.5)
    tensor([[0.7500, 1.0000]])
    """
    _check_input(x)
    slopes = align(p1, x, channel_dim, "p1"), align(p2, x, channel_dim, "p2")
    return reference.acon_c_derivative(x, *slopes, align(beta, x, channel_dim, "beta"))


def maxout(x: Tensor, p1: Scalar, p2: Scalar, *, channel_dim: int = 1) -> Tensor:
    """max(p1·x, p2·x), the Maxout member that ACON-C smooths (paper, table 1): ReLU at (1, 0), PReLU at (1, p).

    >>> import torch
    >>> maxout(torch.tensor([[-2.0, 2.0]]), p1=1.0, p2=torch.tensor([0.25, 0.25]))
    tensor([[-0.5000,  2.0000]])
    """
    _check_input(x)
    return reference.maxout(x, align(p1, x, channel_dim, "p1"), align(p2, x, channel_dim, "p2"))


def meta_acon_c(
    x: Tensor,
    p1: Scalar,
    p2: Scalar,
    fc1_weight: Tensor,
    fc1_bias: Tensor | None,
    fc2_weight: Tensor,
    fc2_bias: Tensor | None,
    *,
    beta_scale: float = 1.0,
    channel_dim: int = 1,
    gate: str = "sigmoid",
) -> Tensor:
    """Channel-wise Meta-ACON without inner norms: β = s·σ(W2(W1·mean(x) + b1) + b2), then ACON-C (paper, section 3).

    Args:
        x: (N, …, C, …) with the channels at ``channel_dim``; all other dimensions but the first are pooled. With the
            channels in front (unbatched) x is a batch of one.
        p1: number, (C,), (N, C) or x.ndim dimensions.
        p2: likewise.
        fc1_weight: W1, (h, C) or (h, C, 1, 1).
        fc1_bias: b1, (h,) or None.
        fc2_weight: W2, (C, h) or (C, h, 1, 1).
        fc2_bias: b2, (C,) or None.
        beta_scale: s.
        channel_dim: where x's channels are.
        gate: ``"sigmoid"`` or ``"hard"``, in the generator and in the activation.

    >>> import torch
    >>> x = torch.ones(1, 4, 2)
    >>> meta_acon_c(x, 1.0, 0.0, torch.zeros(1, 2), None, torch.zeros(2, 1), None, channel_dim=-1)[0, 0, 0]
    tensor(0.6225)
    """
    _check_input(x)
    c = channel_index(x, channel_dim)
    if c == 0:  # an unbatched input is a batch of one
        p1, p2 = (p.unsqueeze(0) if isinstance(p, Tensor) and p.ndim == x.ndim else p for p in (p1, p2))
        generator = (fc1_weight, fc1_bias, fc2_weight, fc2_bias)
        return meta_acon_c(x.unsqueeze(0), p1, p2, *generator, beta_scale=beta_scale, gate=gate).squeeze(0)
    channels, hidden = x.shape[c], fc1_weight.shape[0]
    w1, w2 = fc1_weight.flatten(1), fc2_weight.flatten(1)
    if w1.shape != (hidden, channels) or w2.shape != (channels, hidden):
        raise ShapeError(
            f"fc1_weight {tuple(fc1_weight.shape)} and fc2_weight {tuple(fc2_weight.shape)} do not fit {channels} "
            f"channels; expected (h, {channels}) and ({channels}, h)"
        )
    if isinstance(p1, Tensor) and isinstance(p2, Tensor) and ops.meta_kernel_serves(x, p1, p2, channel_dim):
        record = Generator(fc1_weight, fc2_weight, fc1_bias, fc2_bias, scale=beta_scale)
        return ops.meta_acon_c(x, p1, p2, record, channel_dim, gate)[0]
    moved = x.movedim(c, 1)
    slopes = [
        align(p.movedim(c, 1) if isinstance(p, Tensor) and p.ndim == x.ndim else p, moved, 1, name)
        for p, name in ((p1, "p1"), (p2, "p2"))
    ]
    y = reference.meta_acon_c(moved, slopes[0], slopes[1], w1, fc1_bias, w2, fc2_bias, beta_scale, gate)
    return y.movedim(1, c)
