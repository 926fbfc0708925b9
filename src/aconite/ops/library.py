"""The operator library `torch.ops.aconite`, and the questions that decide how a call runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aconite.kernels import ORDINARY, in_memory

__all__ = ["below_autograd", "define", "formula_needed", "observed", "plain", "runs_directly", "unwatched"]

# define/impl, not the custom_op decorator: 3 µs a call instead of more than the arithmetic of a small tensor.
_LIBRARY = torch.library.Library("aconite", "DEF")  # type: ignore[no-untyped-call]

below_autograd = torch._C._AutoDispatchBelowAutograd

_functorch_level = torch._C._functorch.peek_interpreter_stack
_dispatch_modes = torch._C._len_torch_dispatch_stack
_forward_ad = torch.autograd.forward_ad
_keys = torch._C._dispatch_keys
_tracer = torch._C._get_tracing_state
_PLAIN: set[Any] = {Tensor, torch.nn.Parameter, type(None)}


def define(
    schema: str,
    *,
    kernel: Callable[..., Any],
    autograd: Callable[..., Any],
    fake: Callable[..., Any],
    device: str | None = None,
) -> Any:
    """Define an operator of `torch.ops.aconite` and return it.

    Args:
        schema: name, arguments and results.
        kernel: runs below autograd.
        autograd: runs above it.
        fake: gives the results' shapes, dtypes and strides alone.
        device: where the kernel runs, such as "CPU"; None for anywhere.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, kernel, device or "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, autograd, "Autograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"aconite::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.aconite, name).default


def formula_needed() -> bool:
    """Whether a torch.func transform, forward-mode AD or torch.jit.trace is active.

    Operators with an autograd rule of their own raise under torch.func.grad and silently drop forward-mode tangents
    (torch 2.13, 2.14), so the formula in plain torch runs there; a trace holds it as well, and runs without Aconite.
    """
    return _functorch_level() is not None or _forward_ad._current_level >= 0 or _tracer() is not None


def observed() -> bool:
    """Whether a dispatch mode watches the operations, to count or to trace them: it should see those inside a layer."""
    return bool(_dispatch_modes())


def runs_directly(x: Tensor) -> bool:
    """Whether a call on x that a kernel has served before may go to it at once: x is a tensor in the CPU's memory and
    nothing watches or transforms.
    """
    return (
        type(x) in _PLAIN
        and _keys(x).raw_repr() in ORDINARY  # 0.3 µs; device, layout and the rest asked one by one take 0.35
        and not _dispatch_modes()
        and _functorch_level() is None
        and _forward_ad._current_level < 0
        and _tracer() is None
    )


def plain(*tensors: Tensor | None) -> bool:
    """Whether a kernel may be given the tensors' pointers: they are `unwatched` and in memory."""
    return unwatched(*tensors) and all(t is None or in_memory(t) for t in tensors)


def unwatched(*tensors: Tensor | None) -> bool:
    """Whether nothing watches below autograd, so that a kernel that copies what is not in memory may be called without
    the dispatcher (3 µs).
    """
    if _dispatch_modes():
        return False
    return _PLAIN.issuperset(map(type, tensors))
