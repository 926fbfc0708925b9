"""Which kernel runs: the native library where it serves the device, dtype and shapes, torch operations everywhere else.

Parameters are tensors as `aconite.functional` takes them, or None for the constants p1 = 1, p2 = 0, beta = 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from aconite.errors import KernelUnavailableError
from aconite.kernels import composite, cpu
from aconite.kernels._library import load
from aconite.kernels.alignment import Scalar, align
from aconite.kernels.cpu import Call

__all__ = ["Call", "acon_backward", "acon_c_backward", "acon_c_forward", "acon_forward", "native_serves"]

DEFAULTS = {"p1": 1.0, "p2": 0.0, "beta": 1.0}


def _native() -> bool:
    return load().reason is None


# What torch.compiler.assume_constant_result sets; the function itself imports the compiler, which costs a second.
_native._dynamo_marked_constant = True  # type: ignore[attr-defined]


def native_serves(device: torch.device) -> bool:
    """Whether the device has a native kernel here; it may still refuse a shape."""
    return device.type == "cpu" and _native()


@functools.cache
def _constant(value: float, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.promote_types(dtype, torch.float32), device="cpu")


def _aligned(x: Tensor, channel_dim: int, **parameters: Tensor | None) -> list[Scalar]:
    return [DEFAULTS[name] if p is None else align(p, x, channel_dim, name) for name, p in parameters.items()]


def _shaped(found: Sequence[Tensor], *tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else g.reshape(t.shape) for g, t in zip(found, tensors, strict=True)]


def acon_c_forward(
    x: Tensor, p1: Tensor | None, p2: Tensor | None, beta: Tensor | None, channel_dim: int, gate: str
) -> tuple[Tensor, Call | None]:
    """y = (p1 − p2)x·σ(β(p1 − p2)x) + p2·x, and what the backward call may use again."""
    if x.is_cpu and _native():
        q1 = _constant(1.0, x.dtype) if p1 is None else p1
        q2 = _constant(0.0, x.dtype) if p2 is None else p2
        q3 = _constant(1.0, x.dtype) if beta is None else beta
        try:
            return cpu.acon_c_call(x, q1, q2, q3, channel_dim, gate)
        except KernelUnavailableError:  # a per-pixel parameter, an unusual dtype
            pass
    a, b, c = _aligned(x, channel_dim, p1=p1, p2=p2, beta=beta)
    return composite.acon_c_forward(x, a, b, c, gate), None


def acon_c_backward(
    call: Call | None,
    grad: Tensor,
    x: Tensor,
    p1: Tensor | None,
    p2: Tensor | None,
    beta: Tensor | None,
    channel_dim: int,
    gate: str,
    needs: tuple[bool, ...],
) -> Sequence[Tensor | None]:
    """Gradients of x, p1, p2, beta; None, or anything, where none is needed."""
    if x.is_cpu and _native():
        q1 = _constant(1.0, x.dtype) if p1 is None else p1
        q2 = _constant(0.0, x.dtype) if p2 is None else p2
        q3 = _constant(1.0, x.dtype) if beta is None else beta
        try:
            return cpu.acon_c_backward(grad, x, q1, q2, q3, channel_dim=channel_dim, gate=gate, needs=needs, call=call)
        except KernelUnavailableError:
            pass
    a, b, c = _aligned(x, channel_dim, p1=p1, p2=p2, beta=beta)
    return _shaped(composite.acon_c_backward(grad, x, a, b, c, gate), x, p1, p2, beta)


def acon_forward(a: Tensor, b: Tensor, beta: Tensor | None, channel_dim: int, gate: str) -> tuple[Tensor, Call | None]:
    """y = (a − b)·σ(β(a − b)) + b, and what the backward call may use again."""
    if a.is_cpu and _native():
        q = _constant(1.0, a.dtype) if beta is None else beta
        try:
            return cpu.smooth_maximum_call(a, b, q, channel_dim, gate)
        except KernelUnavailableError:
            pass
    return composite.acon_forward(a, b, _aligned(a, channel_dim, beta=beta)[0], gate), None


def acon_backward(
    call: Call | None,
    grad: Tensor,
    a: Tensor,
    b: Tensor,
    beta: Tensor | None,
    channel_dim: int,
    gate: str,
    needs: tuple[bool, ...],
) -> Sequence[Tensor | None]:
    """Gradients of a, b, beta; None, or anything, where none is needed."""
    if a.is_cpu and _native():
        q = _constant(1.0, a.dtype) if beta is None else beta
        try:
            return cpu.smooth_maximum_backward(
                grad, a, b, q, channel_dim=channel_dim, gate=gate, needs=needs, call=call
            )
        except KernelUnavailableError:
            pass
    found = composite.acon_backward(grad, a, b, _aligned(a, channel_dim, beta=beta)[0], gate)
    return _shaped(found, a, b, beta)
