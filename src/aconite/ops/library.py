"""The operator library `torch.ops.aconite`, and the questions that decide how a call runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["below_autograd", "define", "formula_needed", "observed", "plain", "runs_directly"]

# define/impl, not the custom_op decorator: 3 µs a call instead of more than the arithmetic of a small tensor.
_LIBRARY = torch.library.Library("aconite", "DEF")  # type: ignore[no-untyped-call]

below_autograd = torch._C._AutoDispatchBelowAutograd

_functorch_level = torch._C._functorch.peek_interpreter_stack
_batched = torch._C._functorch.is_legacy_batchedtensor  # of torch.autograd.grad(…, is_grads_batched=True)
_dispatch_modes = torch._C._len_torch_dispatch_stack
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
    """Whether a torch.func transform or forward-mode AD is active.

    Operators with an autograd rule of their own raise under torch.func.grad and silently drop forward-mode tangents
    (torch 2.13, 2.14), so the formula in plain torch runs there.
    """
    return _functorch_level() is not None or torch.autograd.forward_ad._current_level >= 0


def observed() -> bool:
    """Whether a dispatch mode watches the operations, to count or to trace them: it should see those inside a layer."""
    return bool(_dispatch_modes())


def runs_directly(x: Tensor) -> bool:
    """Whether a call on x that a kernel has served before may go to it at once: x is a tensor in the CPU's memory and
    nothing watches or transforms.
    """
    return (
        type(x) in _PLAIN
        and x.is_cpu
        and x.layout is torch.strided
        and not _batched(x)
        and not _dispatch_modes()
        and _functorch_level() is None
        and torch.autograd.forward_ad._current_level < 0
    )


def plain(*tensors: Tensor | None) -> bool:
    """Whether nothing watches below autograd, so that a kernel may be called without the dispatcher (3 µs)."""
    if _dispatch_modes():
        return False
    return _PLAIN.issuperset(map(type, tensors))
