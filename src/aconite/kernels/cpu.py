"""The native CPU kernels as functions of tensors: allocation and pointers here, arithmetic in csrc."""

from __future__ import annotations

import torch
from torch import Tensor

from ._library import functions
from ._plan import ARITHMETIC, Plan, check, refusal
from ._pointers import like, one, planned

__all__ = [
    "Call",
    "acon_c_backward",
    "acon_c_call",
    "acon_c_forward",
    "smooth_maximum_backward",
    "smooth_maximum_call",
    "smooth_maximum_forward",
    "supports",
]

Call = tuple[Plan, tuple[int, ...]]
"""What a forward call may leave its backward call: the plan, and where in memory all tensors of the call lie.

Where backward finds them at the same places, nothing has to be checked or looked up again.
"""


def supports(x: Tensor, *parameters: Tensor, channel_dim: int = 1) -> str | None:
    """None if the native kernels serve x with these parameters (p1, p2, beta), else the reason why not."""
    return refusal(x, parameters, channel_dim)


def acon_c_call(
    x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor, channel_dim: int, gate: str
) -> tuple[Tensor, Call | None]:
    """`acon_c_forward`, and what `acon_c_backward` may use again; None where a tensor had to be copied."""
    t, plan = planned(x, (p1, p2, beta), channel_dim, gate)
    want = ARITHMETIC[t.dtype]
    q1, q2, q3 = one(p1, want), one(p2, want), one(beta, want)
    y = torch.empty_like(t)
    pointers = t.data_ptr(), q1.data_ptr(), q2.data_ptr(), q3.data_ptr()
    status = functions().aconite_acon_c_forward(plan.address, *pointers, y.data_ptr())
    if status:
        check(status)
    return y, (plan, pointers) if t is x and q1 is p1 and q2 is p2 and q3 is beta else None


def acon_c_forward(
    x: Tensor, p1: Tensor, p2: Tensor, beta: Tensor, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> Tensor:
    """y = (p1 - p2) x gate(beta (p1 - p2) x) + p2 x, in x's dtype and memory format."""
    return acon_c_call(x, p1, p2, beta, channel_dim, gate)[0]


def acon_c_backward(
    grad: Tensor,
    x: Tensor,
    p1: Tensor,
    p2: Tensor,
    beta: Tensor,
    *,
    channel_dim: int = 1,
    gate: str = "sigmoid",
    needs: tuple[bool, ...] = (True, True, True, True),
    call: Call | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, p1, p2, beta in one pass over memory; `needs` says which are wanted, the others are None.

    `call` is what `acon_c_call` gave for the very same values. They have not changed since (autograd sees to that),
    but a saved-tensor hook may have moved them.
    """
    pointers: tuple[int, ...] = x.data_ptr(), p1.data_ptr(), p2.data_ptr(), beta.data_ptr()
    if call is not None and call[1] == pointers:
        plan = call[0]
    else:
        x, plan = planned(x, (p1, p2, beta), channel_dim, gate)
        want = ARITHMETIC[x.dtype]
        p1, p2, beta = one(p1, want), one(p2, want), one(beta, want)
        pointers = x.data_ptr(), p1.data_ptr(), p2.data_ptr(), beta.data_ptr()
    grad = like(grad, x)
    dp1 = torch.empty_like(p1) if needs[1] else None
    dp2 = torch.empty_like(p2) if needs[2] else None
    dbeta = torch.empty_like(beta) if needs[3] else None
    dx = torch.empty_like(x) if needs[0] else None
    status = functions().aconite_acon_c_backward(
        plan.address,
        grad.data_ptr(),
        *pointers,
        None if dx is None else dx.data_ptr(),
        None if dp1 is None else dp1.data_ptr(),
        None if dp2 is None else dp2.data_ptr(),
        None if dbeta is None else dbeta.data_ptr(),
    )
    if status:
        check(status)
    return dx, dp1, dp2, dbeta


def smooth_maximum_call(a: Tensor, b: Tensor, beta: Tensor, channel_dim: int, gate: str) -> tuple[Tensor, Call | None]:
    """`smooth_maximum_forward`, and what `smooth_maximum_backward` may use again; None where a tensor was copied."""
    s, plan = planned(a, (beta,), channel_dim, gate)
    t, q = like(b, s), one(beta, ARITHMETIC[s.dtype])
    y = torch.empty_like(s)
    pointers = s.data_ptr(), t.data_ptr(), q.data_ptr()
    status = functions().aconite_smooth_maximum_forward(plan.address, *pointers, y.data_ptr())
    if status:
        check(status)
    return y, (plan, pointers) if s is a and t is b and q is beta else None


def smooth_maximum_forward(
    a: Tensor, b: Tensor, beta: Tensor, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> Tensor:
    """y = (a - b) gate(beta (a - b)) + b of two tensors of one shape and dtype, in a's memory format."""
    return smooth_maximum_call(a, b, beta, channel_dim, gate)[0]


def smooth_maximum_backward(
    grad: Tensor,
    a: Tensor,
    b: Tensor,
    beta: Tensor,
    *,
    channel_dim: int = 1,
    gate: str = "sigmoid",
    needs: tuple[bool, ...] = (True, True, True),
    call: Call | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a, b and beta in one pass over memory; `call` as in `acon_c_backward`."""
    pointers: tuple[int, ...] = a.data_ptr(), b.data_ptr(), beta.data_ptr()
    if call is not None and call[1] == pointers:
        plan = call[0]
    else:
        a, plan = planned(a, (beta,), channel_dim, gate)
        b, beta = like(b, a), one(beta, ARITHMETIC[a.dtype])
        pointers = a.data_ptr(), b.data_ptr(), beta.data_ptr()
    grad = like(grad, a)
    da, db = torch.empty_like(a), torch.empty_like(a)
    dbeta = torch.empty_like(beta) if needs[2] else None
    status = functions().aconite_smooth_maximum_backward(
        plan.address,
        grad.data_ptr(),
        *pointers,
        da.data_ptr(),
        db.data_ptr(),
        None if dbeta is None else dbeta.data_ptr(),
    )
    if status:
        check(status)
    return (da if needs[0] else None), (db if needs[1] else None), dbeta
