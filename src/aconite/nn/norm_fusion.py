"""One call for a BatchNorm and the activation behind it: through the fused kernel where it serves, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from aconite.kernels import norm as norm_kernels
from aconite.kernels.norm import NormCall, places
from aconite.nn.acon import AconA, AconB, AconC
from aconite.nn.generator import generator_record, update_statistics
from aconite.nn.meta import MetaAconC
from aconite.ops import (
    batch_norm_acon_c,
    batch_norm_meta_acon_c,
    bound_norm,
    bound_norm_meta,
    formula_needed,
    norm_kernel_serves,
    plain,
)

__all__ = ["Behind", "fused", "fused_meta", "norm_activation"]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Call = TypeVar("Call", bound=NormCall)
_NORMS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d}


class GeneratesBeta(Protocol):
    """What the fused kernel needs of Meta-ACON: MetaAconC, or a layer that has its parts."""

    p1: nn.Parameter
    p2: nn.Parameter
    fc1: nn.Conv2d
    fc2: nn.Conv2d
    bn1: nn.BatchNorm2d | None
    bn2: nn.BatchNorm2d | None
    beta_scale: float
    gate: str


class Behind(NamedTuple):
    """What follows the norm, in the operators' words: ACON-C's None stand for 1, 0, 1."""

    activation: str = "acon_c"
    gate: str = "sigmoid"
    p1: Tensor | None = None
    p2: Tensor | None = None
    beta: Tensor | None = None


def norm_activation(x: Tensor, norm: BatchNorm, activation: nn.Module | None) -> Tensor:
    """``activation(norm(x))``, or ``norm(x)`` without one, reading x alone and keeping x alone for the backward pass.

    The norm behaves as it does on its own: running statistics, momentum, train and eval, frozen (eval with gradients).
    Where the fused kernel does not serve (device, dtype, layout, a transform, a subclass, a hook, another activation),
    the two modules run one after the other.

    Args:
        x: (N, C, *).
        norm: a BatchNorm.
        activation: AconA, AconB, AconC, channel-wise MetaAconC, ReLU, SiLU or None for the fused kernel; or any other.

    >>> norm, act = nn.BatchNorm2d(8), nn.ReLU()
    >>> x = torch.randn(4, 8, 5, 5)
    >>> torch.allclose(norm_activation(x, norm, act), act(nn.BatchNorm2d(8)(x)), atol=1e-5)
    True
    """
    if type(norm) in _NORMS and not _watched(norm) and not (activation is not None and _watched(activation)):
        y = None
        if isinstance(activation, MetaAconC):
            if type(activation) is MetaAconC and activation.granularity == "channel" and activation.channel_dim == 1:
                y = fused_meta(x, norm, activation)
        else:
            behind = _behind(activation, norm.num_features)
            y = None if behind is None else fused(x, norm, behind)
        if y is not None:
            return y
    normed: Tensor = norm(x)
    return normed if activation is None else activation(normed)


def _watched(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks or torch_module._has_any_global_hook())  # type: ignore[no-untyped-call]


def _behind(activation: nn.Module | None, channels: int) -> Behind | None:
    kind = type(activation)
    if activation is None or kind is nn.Identity:
        return Behind("identity")
    if kind is nn.ReLU:
        return Behind("relu")
    if kind is nn.SiLU:
        return Behind()
    if not isinstance(activation, AconA | AconB | AconC) or kind not in (AconA, AconB, AconC):
        return None
    if activation.channels != channels or activation.channel_dim != 1:
        return None  # lazy, or an error that the activation itself explains
    found = activation._parameters
    return Behind("acon_c", activation.gate, found.get("p1"), found.get("p2"), found.get("beta"))


def _given(x: Tensor, norm: BatchNorm) -> norm_kernels.Norm | None:
    """The norm as the operators take it; None for what is torch's to refuse or to compute."""
    norm._check_input_dim(x)
    parameters, buffers = norm._parameters, norm._buffers
    weight, bias = parameters["weight"], parameters["bias"]
    mean, var = buffers["running_mean"], buffers["running_var"]
    batch = norm.training or (mean is None and var is None)
    if x.shape[1] != norm.num_features or (batch and x.numel() <= norm.num_features):
        return None
    if (mean is None) != (var is None):
        return None
    for tensor in (weight, mean):
        if tensor is None or tensor.dtype is x.dtype:
            continue
        if tensor.dtype is not torch.float32 or x.dtype not in (torch.bfloat16, torch.float16):
            return None
    return (
        norm_kernels.Norm(weight, bias, None, None, norm.eps)
        if batch
        else norm_kernels.Norm(weight, bias, mean, var, norm.eps)
    )


class _Kept(NamedTuple):
    signature: tuple[object, ...]
    objects: list[object]
    """What the signature holds the identities of; alive, so that no other object takes one over."""
    tensors: list[Tensor]
    places: tuple[int, ...]
    call: NormCall


# Beside the modules, not in them: copies and pickles of a module must not hold addresses.
_calls: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def _kept_call(
    norm: BatchNorm, x: Tensor, bind: Callable[..., Call | None], given: norm_kernels.Norm, behind: tuple[Any, ...]
) -> Call | None:
    """The norm's call of last time if the same tensors lie where they lay, else a new one; None if none can be bound.

    Binding costs 25 to 60 µs, more than the kernel takes on a small map; asking whether it still holds costs 5.
    """
    if torch.compiler.is_compiling() or formula_needed() or not plain(x) or not x.is_cpu:
        return None
    objects = [*given, *behind] if bind is bound_norm else [*given, *behind[:2], *behind[2], behind[3]]
    signature = (x.shape, x.stride(), x.dtype, *map(id, objects))
    kept = _calls.get(norm)
    if kept is not None and kept.signature == signature and places(kept.tensors) == kept.places:
        return cast(Call, kept.call)
    tensors = [t for t in objects if isinstance(t, Tensor)]
    parameters = [t for t in (*given[:2], *(behind[2:] if bind is bound_norm else behind[:2])) if t is not None]
    if not plain(*tensors) or not norm_kernel_serves(x, *parameters, meta=bind is bound_norm_meta):
        return None
    call = bind(x, given, *behind)
    if call is not None and not call.copied:
        _calls[norm] = _Kept(signature, objects, tensors, places(tensors), call)
    return call


def fused(x: Tensor, norm: BatchNorm, behind: Behind) -> Tensor | None:
    """The fused kernel's result, with the norm's buffers moved on; None, and nothing done, if it does not serve."""
    given = _given(x, norm)
    if given is None:
        return None
    call = _kept_call(norm, x, bound_norm, given, behind)
    if call is None and not norm_kernel_serves(x, *[p for p in (*behind[2:], *given[:2]) if p is not None]):
        return None
    activation, gate, *slopes = behind
    y, statistics = batch_norm_acon_c(x, given, *slopes, activation=activation, gate=gate, call=call)
    _move(norm, statistics, x)
    return y


def fused_meta(x: Tensor, norm: BatchNorm, act: GeneratesBeta) -> Tensor | None:
    """`fused` with Meta-ACON behind the norm."""
    given = _given(x, norm)
    if given is None or act.p1.numel() != norm.num_features:
        return None
    samples = x.shape[0]
    record = generator_record(act.fc1, act.bn1, act.fc2, act.bn2, samples, act.beta_scale)
    if record is None:
        return None
    p1, p2 = act.p1, act.p2
    call = _kept_call(norm, x, bound_norm_meta, given, (p1, p2, record, act.gate))
    if call is None and not norm_kernel_serves(x, *[p for p in (p1, p2, *given[:2]) if p is not None], meta=True):
        return None
    y, statistics, saved = batch_norm_meta_acon_c(x, given, p1, p2, record, act.gate, call=call)
    if record.norm == "batch":
        assert act.bn1 is not None
        assert act.bn2 is not None
        update_statistics(act.bn1, act.bn2, saved, samples, act.fc1.out_channels)
    _move(norm, statistics, x)
    return y


def _move(norm: BatchNorm, statistics: Tensor, x: Tensor) -> None:
    """What BatchNorm does to its buffers in training, with the unbiased variance."""
    if not (norm.training and norm.track_running_stats):
        return
    buffers = norm._buffers
    mean, var, steps = buffers["running_mean"], buffers["running_var"], buffers["num_batches_tracked"]
    count = x.numel() // norm.num_features
    # Seven operations on a few hundred numbers cost more than the passes over a small map. A compiler has to see them.
    if (
        mean is not None
        and var is not None
        and not torch.compiler.is_compiling()
        and plain(statistics, mean, var, steps)
        and norm_kernels.update_statistics(statistics, mean, var, steps, norm.momentum, count)
    ):
        return
    with torch.no_grad():
        share = 0.0 if norm.momentum is None else norm.momentum
        if steps is not None:
            steps.add_(1)
            share = 1.0 / float(steps) if norm.momentum is None else norm.momentum
        if mean is None or var is None:
            return
        mean.lerp_(statistics[0].to(mean.dtype), share)
        var.lerp_((statistics[1] * (count / (count - 1))).to(var.dtype), share)
