"""One call for a BatchNorm and the activation behind it: through the fused kernel where it serves, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from aconite.kernels import norm as norm_kernels
from aconite.nn.acon import AconA, AconB, AconC
from aconite.nn.channels import SLOPES
from aconite.nn.generator import generator_record, statistics_update
from aconite.nn.kept_calls import Keeper, again, keep
from aconite.nn.meta import MetaAconC
from aconite.ops import (
    After,
    batch_norm_acon_c,
    batch_norm_meta_acon_c,
    bound_norm,
    bound_norm_meta,
    formula_needed,
    norm_kernel_serves,
    plain,
)

__all__ = ["Behind", "fused", "fused_meta", "norm_activation", "run_pair"]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
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
    y = again(norm, x, activation)
    return run_pair(x, norm, activation, Keeper(norm, activation)) if y is None else y


def run_pair(x: Tensor, norm: BatchNorm, activation: nn.Module | None, keeper: Keeper) -> Tensor:
    """`norm_activation` where no call is kept, or none that holds; the new one is kept with the keeper."""
    if type(norm) in _NORMS and not _watched(norm) and not (activation is not None and _watched(activation)):
        y = None
        if isinstance(activation, MetaAconC):
            if type(activation) is MetaAconC and activation.granularity == "channel" and activation.channel_dim == 1:
                y = fused_meta(x, norm, activation, keeper)
        else:
            behind = _behind(activation, norm.num_features)
            y = None if behind is None else fused(x, norm, behind, keeper)
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
    slopes = [getattr(activation, name, None) for name in SLOPES]
    if any(isinstance(slope, float) and slope != 1 for slope in slopes):
        return None  # a constant of AconA's that the operator does not know
    return Behind("acon_c", activation.gate, *(slope if isinstance(slope, Tensor) else None for slope in slopes))


def _given(x: Tensor, norm: BatchNorm) -> norm_kernels.Norm | None:
    """The norm as the operators take it; None for what is torch's to refuse or to compute."""
    norm._check_input_dim(x)
    weight, bias, mean, var = norm.weight, norm.bias, norm.running_mean, norm.running_var
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


def fused(x: Tensor, norm: BatchNorm, behind: Behind, keeper: Keeper) -> Tensor | None:
    """The fused kernel's result, with the norm's buffers moved on; None, and nothing done, if it does not serve."""
    given = _given(x, norm)
    if given is None:
        return None
    if not norm_kernel_serves(x, *[p for p in (*behind[2:], *given[:2]) if p is not None]):
        return None
    activation, gate, *slopes = behind
    moving = _moving(norm, x)
    after = [] if moving is None else [After(moving)]
    if _binds(x, *given[:4], *slopes) and (bound := bound_norm(x, given, after, *behind)) is not None:
        if not bound.call.copied:
            keep(keeper, (), x, bound)
        return bound.run(x)
    y, statistics = batch_norm_acon_c(x, given, *slopes, activation=activation, gate=gate)
    if moving is not None:
        moving(statistics)
    return y


def fused_meta(x: Tensor, norm: BatchNorm, act: GeneratesBeta, keeper: Keeper) -> Tensor | None:
    """`fused` with Meta-ACON behind the norm."""
    given = _given(x, norm)
    if given is None or act.p1.numel() != norm.num_features:
        return None
    samples = x.shape[0]
    record = generator_record(act.fc1, act.bn1, act.fc2, act.bn2, samples, act.beta_scale)
    if record is None:
        return None
    p1, p2 = act.p1, act.p2
    if not norm_kernel_serves(x, *[p for p in (p1, p2, *given[:2]) if p is not None], meta=True):
        return None
    moving, moving_inside = _moving(norm, x), None
    bn1, bn2 = act.bn1, act.bn2
    if record.norm == "batch" and bn1 is not None and bn2 is not None:
        dtype = torch.promote_types(x.dtype, torch.float32)
        moving_inside = statistics_update(bn1, bn2, samples, act.fc1.out_channels, dtype)
    after = [] if moving_inside is None else [After(moving_inside, saved=1, start=samples * x.shape[1])]
    after += [] if moving is None else [After(moving)]
    if _binds(x, *given[:4], p1, p2, *record[:12]):
        bound = bound_norm_meta(x, given, after, p1, p2, record, act.gate)
        if bound is not None:
            if not bound.call.copied:
                keep(keeper, [m for m in (act.fc1, bn1, act.fc2, bn2) if m is not None], x, bound)
            return bound.run(x)
    y, statistics, saved = batch_norm_meta_acon_c(x, given, p1, p2, record, act.gate)
    if moving_inside is not None:
        moving_inside(saved)
    if moving is not None:
        moving(statistics)
    return y


def _binds(*tensors: Tensor | None) -> bool:
    return not torch.compiler.is_compiling() and not formula_needed() and plain(*tensors)


def _moving(norm: BatchNorm, x: Tensor) -> Callable[[Tensor], None] | None:
    """What a batch's statistics do to the norm's buffers; None in evaluation, and where nothing is tracked."""
    if not (norm.training and norm.track_running_stats):
        return None
    momentum, count = norm.momentum, x.numel() // norm.num_features
    mean, var, steps = norm.running_mean, norm.running_var, norm.num_batches_tracked
    # Seven operations on a few hundred numbers cost more than the passes over a small map. A compiler has to see them.
    if mean is not None and var is not None and _binds(x, mean, var, steps):
        update = norm_kernels.StatisticsUpdate.of(mean, var, steps, momentum, count)
        if update is not None:
            return update

    def move(statistics: Tensor) -> None:
        with torch.no_grad():
            share = 0.0 if momentum is None else momentum
            if steps is not None:
                steps.add_(1)
                share = 1.0 / float(steps) if momentum is None else momentum
            if mean is None or var is None:
                return
            mean.lerp_(statistics[0].to(mean.dtype), share)
            var.lerp_((statistics[1] * (count / (count - 1))).to(var.dtype), share)

    return move
