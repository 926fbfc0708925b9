"""Meta-ACON's generator as the native kernel takes it, and what its norms' buffers hold afterwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aconite.kernels import Generator, split_saved

__all__ = ["generator_record", "update_statistics"]


def _untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call would do nothing but the kind's own arithmetic: no subclass, parametrization or hook."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return type(module) is kind and not any(hooks)


def generator_record(
    fc1: nn.Conv2d, bn1: nn.BatchNorm2d | None, fc2: nn.Conv2d, bn2: nn.BatchNorm2d | None, samples: int, scale: float
) -> Generator | None:
    """The record, or None where the modules themselves must run: SyncBatchNorm, hooks, parametrizations."""
    if not (_untouched(fc1, nn.Conv2d) and _untouched(fc2, nn.Conv2d)):
        return None
    if bn1 is None or bn2 is None:
        return Generator(fc1.weight, fc2.weight, fc1.bias, fc2.bias, scale=scale)
    if not (_untouched(bn1, nn.BatchNorm2d) and _untouched(bn2, nn.BatchNorm2d)) or bn1.training != bn2.training:
        return None
    if bn1.running_mean is None or bn2.running_mean is None:
        return None
    return Generator(
        *(fc1.weight, fc2.weight, fc1.bias, fc2.bias),
        *(bn1.weight, bn1.bias, bn1.running_mean, bn1.running_var),
        *(bn2.weight, bn2.bias, bn2.running_mean, bn2.running_var),
        norm="batch" if bn1.training and samples > 1 else "running",
        eps1=bn1.eps,
        eps2=bn2.eps,
        scale=scale,
    )


def update_statistics(bn1: nn.BatchNorm2d, bn2: nn.BatchNorm2d, saved: Tensor, samples: int, hidden: int) -> None:
    """What BatchNorm does in training: running averages of the batch mean and the unbiased batch variance."""
    parts = split_saved(saved, samples, bn2.num_features, hidden)
    unbiased = samples / (samples - 1)
    with torch.no_grad():
        for norm, mean, var in ((bn1, parts.bn1_mean, parts.bn1_var), (bn2, parts.bn2_mean, parts.bn2_var)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
            norm.running_var.lerp_((var * unbiased).to(norm.running_var.dtype), share)
