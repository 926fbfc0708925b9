"""ACON-C and the general ACON of two functions' values as torch operators."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from aconite import kernels, reference
from aconite.kernels import AconCCall
from aconite.ops.bound import Bound
from aconite.ops.pointwise import Pointwise

__all__ = ["acon", "acon_c", "bound_acon_c"]

acon_c, _acon_c_backward = Pointwise(
    name="acon_c",
    inputs=("x",),
    parameters={"p1": 1.0, "p2": 0.0, "beta": 1.0},
    formula=reference.acon_c,
    gradient=reference.acon_c_gradient,
    forward=kernels.acon_c_forward,
    backward=kernels.acon_c_backward,
).register()

acon, _ = Pointwise(
    name="acon",
    inputs=("a", "b"),
    parameters={"beta": 1.0},
    formula=reference.acon,
    gradient=reference.acon_gradient,
    forward=kernels.acon_forward,
    backward=kernels.acon_backward,
).register()


def bound_acon_c(x: Tensor, slopes: tuple[Tensor, Tensor, Tensor], channel_dim: int, gate: str) -> Bound | None:
    """`acon_c` on inputs like x with these p1, p2 and beta, one per channel; None where it is the operator's to run."""
    call = AconCCall.of(x, slopes, channel_dim, gate)
    if call is None:
        return None

    def gradient(grad: Tensor, held: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
        found = _acon_c_backward(grad, *held, channel_dim, gate, needs)
        return [g if n else None for g, n in zip(found, needs, strict=True)]

    return Bound(call, slopes, (), gradient)
