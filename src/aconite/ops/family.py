"""ACON-C and the general ACON of two functions' values as torch operators."""

from __future__ import annotations

from aconite import kernels, reference
from aconite.ops.pointwise import Pointwise

__all__ = ["acon", "acon_c", "run_bound_acon_c"]

acon_c, run_bound_acon_c = Pointwise(
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
