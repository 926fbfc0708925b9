"""Meta-ACON's generator as the native kernel takes it, and what its norms' buffers hold afterwards."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aconite.kernels import Generator, cpu_meta, split_saved
from aconite.ops.library import unwatched

__all__ = ["generator_record", "statistics_update"]


def _untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call would do nothing but the kind's own arithmetic: no subclass, parametrization or hook."""
    return type(module) is kind and not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def generator_record(
    fc1: nn.Conv2d, bn1: nn.BatchNorm2d | None, fc2: nn.Conv2d, bn2: nn.BatchNorm2d | None, samples: int, scale: float
) -> Generator | None:
    """The record, or None where the modules themselves must run: SyncBatchNorm, hooks, parametrizations."""
    if not (_untouched(fc1, nn.Conv2d) and _untouched(fc2, nn.Conv2d)):
        return None
    # Attributes, not the modules' dictionaries: those of a replica (torch.nn.parallel) are empty.
    w1, w2, b1, b2 = fc1.weight, fc2.weight, fc1.bias, fc2.bias
    if bn1 is None or bn2 is None:
        return Generator(w1, w2, b1, b2, scale=scale)
    if not (_untouched(bn1, nn.BatchNorm2d) and _untouched(bn2, nn.BatchNorm2d)) or bn1.training != bn2.training:
        return None
    if bn1.running_mean is None or bn2.running_mean is None:
        return None
    weights = (w1, w2, b1, b2, bn1.weight, bn1.bias, bn2.weight, bn2.bias)
    if bn1.training and samples > 1:
        # Not the running statistics: they are not read, and autograd would find them changed in the backward pass.
        return Generator(*weights, norm="batch", eps1=bn1.eps, eps2=bn2.eps, scale=scale)
    running = (bn1.running_mean, bn1.running_var, bn2.running_mean, bn2.running_var)
    return Generator(*weights, *running, norm="running", eps1=bn1.eps, eps2=bn2.eps, scale=scale)


def statistics_update(
    bn1: nn.BatchNorm2d, bn2: nn.BatchNorm2d, samples: int, hidden: int, dtype: torch.dtype
) -> Callable[[Tensor], None]:
    """What BatchNorm does in training: running averages of the batch mean and the unbiased batch variance.

    Of the vector that `split_saved` names, whose ``dtype`` is given; good for the buffers as they lie now.
    """
    m1, v1, steps1 = bn1.running_mean, bn1.running_var, bn1.num_batches_tracked
    m2, v2, steps2 = bn2.running_mean, bn2.running_var, bn2.num_batches_tracked
    assert m1 is not None
    assert v1 is not None
    assert steps1 is not None
    assert m2 is not None
    assert v2 is not None
    assert steps2 is not None
    # Six operations on a few hundred numbers cost more than a small feature map. A compiler has to see them.
    if not torch.compiler.is_compiling() and unwatched(m1, v1, steps1, m2, v2, steps2):
        update = cpu_meta.MetaStatisticsUpdate.of(
            dtype, (m1, m2), (v1, v2), (steps1, steps2), (bn1.momentum, bn2.momentum), samples
        )
        if update is not None:
            return update
    unbiased = samples / (samples - 1)

    def move(saved: Tensor) -> None:
        parts = split_saved(saved, samples, bn2.num_features, hidden)
        with torch.no_grad():
            for norm, steps, running_mean, running_var, mean, var in (
                (bn1, steps1, m1, v1, parts.bn1_mean, parts.bn1_var),
                (bn2, steps2, m2, v2, parts.bn2_mean, parts.bn2_var),
            ):
                steps.add_(1)
                share = 1.0 / float(steps) if norm.momentum is None else norm.momentum
                running_mean.lerp_(mean.to(running_mean.dtype), share)
                running_var.lerp_((var * unbiased).to(running_var.dtype), share)

    return move
