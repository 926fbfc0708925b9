"""One C view per kind of call, kept: analysing a layout costs more than running a small tensor through the kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, SettingsError, ShapeError
from ._library import load
from .layout import dense, parameter_strides

__all__ = ["ARITHMETIC", "DTYPES", "GATES", "Plan", "check", "meta_refusal", "plan_for", "refusal"]

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
ARITHMETIC = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
}
GATES = {"sigmoid": 0, "hard": 1}
KEPT = 4096  # plans; a training run needs as many as it has distinct shapes


class _View(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("n", "c", "l")),
        *((f"{name}_{axis}", ctypes.c_int64) for name in ("p1", "p2", "beta") for axis in ("sn", "sc")),
        *((name, ctypes.c_int32) for name in ("dtype", "layout", "gate", "reserved")),
    )


class Plan(NamedTuple):
    """`address` points at `view`, which the plan owns; `copies` says that x must be copied first."""

    address: int
    view: _View | None
    n: int
    c: int
    copies: bool


_plans: dict[object, Plan] = {}


def refusal(x: Tensor, parameters: Sequence[Tensor], channel_dim: int, *, meta: bool = False) -> str | None:
    """The reason why the native kernels cannot serve this call, or None."""
    reason = load().reason
    if reason is not None:
        return reason
    for tensor in (x, *parameters):
        if tensor.device.type != "cpu":
            return f"the native kernels run on the CPU, not on {tensor.device}"
        if tensor.layout is not torch.strided or tensor.is_nested:
            return "the native kernels need dense (strided) tensors"
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return f"the native kernels take plain tensors, not {type(tensor).__name__}"
    if x.dtype not in DTYPES:
        return f"the native kernels have no {x.dtype}"
    if x.dim() == 0 or not -x.dim() <= channel_dim < x.dim():
        return f"dimension {channel_dim} of a tensor of shape {tuple(x.shape)} does not exist"
    view = dense(x.shape, x.stride(), channel_dim) or dense(x.shape, _closed_up(x), channel_dim)
    if view is None:
        return "the tensor's layout is unknown"
    if meta and not view.samples:
        return "Meta-ACON's kernel needs the samples outermost in memory and the channels next to them or last"
    for parameter in parameters:
        strides = parameter_strides(parameter.shape, x.shape, channel_dim)
        if strides is None:
            return f"a parameter of shape {tuple(parameter.shape)} is neither scalar, per channel nor per sample"
        if meta and strides[0]:
            return f"Meta-ACON's p1 and p2 are per channel or scalar, not of shape {tuple(parameter.shape)}"
        if strides[0] and not view.samples:
            return "per-sample parameters need the samples outermost in memory and the channels next to them or last"
    return None


_served: set[object] = set()
_PLAIN = {Tensor, torch.nn.Parameter}


def meta_refusal(x: Tensor, p1: Tensor, p2: Tensor, channel_dim: int) -> str | None:
    """`refusal` for Meta-ACON, which asks at every call: a kind of call once found served is found again at once."""
    kinds = type(x), type(p1), type(p2)
    if not (_PLAIN.issuperset(kinds) and x.is_cpu and p1.is_cpu and p2.is_cpu and x.layout is torch.strided):
        return refusal(x, (p1, p2), channel_dim, meta=True)
    if x.is_nested or p1.layout is not torch.strided or p2.layout is not torch.strided:
        return refusal(x, (p1, p2), channel_dim, meta=True)
    key = (x.shape, x.stride(), x.dtype, channel_dim, p1.shape, p2.shape)
    if key in _served:
        return None
    reason = refusal(x, (p1, p2), channel_dim, meta=True)
    if reason is None:
        if len(_served) >= KEPT:
            _served.clear()
        _served.add(key)
    return reason


def _closed_up(x: Tensor) -> tuple[int, ...]:
    """The strides of a copy of x that has no gaps and no repeats."""
    return torch.empty_like(x, device="meta").stride()


def plan_for(x: Tensor, parameters: Sequence[Tensor], channel_dim: int, gate: str, meta: bool = False) -> Plan:
    """The plan for this kind of call, made at its first use."""
    # A tensor elsewhere than on the CPU has no shape here: it never finds a plan, and `refusal` tells why.
    shapes = [p.shape if p.is_cpu else None for p in parameters]
    key = (x.shape if x.is_cpu else None, x.stride(), x.dtype, channel_dim, gate, meta, *shapes)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= KEPT:
            _plans.clear()
        plan = _plans[key] = _make(x, parameters, channel_dim, gate, meta)
    return plan


def _make(x: Tensor, parameters: Sequence[Tensor], channel_dim: int, gate: str, meta: bool) -> Plan:
    if gate not in GATES:
        raise SettingsError(f"gate is {gate!r}; expected one of {', '.join(GATES)}")
    reason = refusal(x, parameters, channel_dim, meta=meta)
    if reason is not None:
        raise KernelUnavailableError(reason)
    view = dense(x.shape, x.stride(), channel_dim)
    if view is None:
        return Plan(0, None, 0, 0, True)
    strides = [parameter_strides(p.shape, x.shape, channel_dim) or (0, 0) for p in parameters]
    # smooth_maximum has beta alone, Meta-ACON p1 and p2 alone
    strides = [*strides, (0, 0)] if meta else [(0, 0)] * (3 - len(strides)) + strides
    flat = [step for pair in strides for step in pair]
    record = _View(view.n, view.c, view.l, *flat, DTYPES[x.dtype], view.layout, GATES[gate], 0)
    return Plan(ctypes.addressof(record), record, view.n, view.c, False)


def check(status: int) -> None:
    """Turn the C side's status into an exception."""
    if status == 2:
        raise MemoryError("the native kernels could not allocate their scratch memory")
    if status != 0:
        raise ShapeError(f"the native kernels refused the call (status {status})")
