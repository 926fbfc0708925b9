"""What goes into Meta-ACON's small network, and what comes back from it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["NORMS", "Generator", "MetaGradients", "MetaSaved", "split_saved"]

NORMS = {"none": 0, "batch": 1, "running": 2}


class Generator(NamedTuple):
    """beta = scale * gate(bn2(fc2(bn1(fc1(mean))))), with h = fc1_weight.shape[0].

    `norm` is "none", "batch" (statistics over the samples: training) or "running", the only one that reads bn*_mean and
    bn*_var. The order is the operator's: what has a gradient first, as in `MetaGradients`.
    """

    fc1_weight: Tensor
    fc2_weight: Tensor
    fc1_bias: Tensor | None = None
    fc2_bias: Tensor | None = None
    bn1_weight: Tensor | None = None
    bn1_bias: Tensor | None = None
    bn2_weight: Tensor | None = None
    bn2_bias: Tensor | None = None
    bn1_mean: Tensor | None = None
    bn1_var: Tensor | None = None
    bn2_mean: Tensor | None = None
    bn2_var: Tensor | None = None
    norm: str = "none"
    eps1: float = 1e-5
    eps2: float = 1e-5
    scale: float = 1.0


class MetaSaved(NamedTuple):
    """Views into the vector that the forward saves; the statistics (biased variance) are 0 unless norm is "batch"."""

    mean: Tensor
    beta: Tensor
    fc1: Tensor
    fc2: Tensor
    bn1_mean: Tensor
    bn1_var: Tensor
    bn2_mean: Tensor
    bn2_var: Tensor


class MetaGradients(NamedTuple):
    """Gradients of x and of every parameter; None where the generator has no such parameter."""

    x: Tensor
    p1: Tensor
    p2: Tensor
    fc1_weight: Tensor
    fc2_weight: Tensor
    fc1_bias: Tensor | None
    fc2_bias: Tensor | None
    bn1_weight: Tensor | None
    bn1_bias: Tensor | None
    bn2_weight: Tensor | None
    bn2_bias: Tensor | None


def split_saved(saved: Tensor, n: int, c: int, hidden: int) -> MetaSaved:
    """Name the parts of `meta_acon_c_forward`'s second result."""
    mean, beta, fc1, fc2, *statistics = saved.split_with_sizes([n * c, n * c, n * hidden, n * c, hidden, hidden, c, c])
    return MetaSaved(mean.view(n, c), beta.view(n, c), fc1.view(n, hidden), fc2.view(n, c), *statistics)
