"""BatchNorm and the activation behind it as one layer."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from aconite import functional, reference
from aconite.nn.acon import AconC
from aconite.nn.channels import SLOPES
from aconite.nn.initial import Init
from aconite.nn.kept_calls import Keeper, again
from aconite.nn.meta import MetaAconC
from aconite.nn.norm_fusion import Behind, fused, fused_meta
from aconite.nn.norm_fusion import norm_activation as norm_activation
from aconite.nn.pooling import pooled

__all__ = [
    "BatchNormAconC1d",
    "BatchNormAconC2d",
    "BatchNormAconC3d",
    "BatchNormMetaAconC1d",
    "BatchNormMetaAconC2d",
    "BatchNormMetaAconC3d",
    "norm_activation",
]


def _repr(norm: str, gate: str) -> str:
    return norm if gate == "sigmoid" else f"{norm}, gate={gate!r}"


def _flatten(state_dict: dict[str, Any], prefix: str) -> None:
    """The shapes of the public reference code into ours: (1, C, 1, 1) slopes to (C,), 2-D fc weights to 4-D."""
    for name in SLOPES:
        value = state_dict.get(prefix + name)
        if isinstance(value, Tensor) and value.ndim > 1 and value.numel() == max(value.shape):
            state_dict[prefix + name] = value.reshape(-1)
    for name in ("fc1.weight", "fc2.weight"):
        value = state_dict.get(prefix + name)
        if isinstance(value, Tensor) and value.ndim == 2:
            state_dict[prefix + name] = value[:, :, None, None]


class _BatchNormAconC(_BatchNorm):
    """Shared by the three ranks, which differ in the input that `_check_input_dim` accepts."""

    p1: nn.Parameter
    p2: nn.Parameter
    beta: nn.Parameter

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        init: Init = "paper",
        gate: str = "sigmoid",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        activation = AconC(num_features, init=init, gate=gate, device=device, dtype=dtype)
        self.gate = gate
        self.p1, self.p2, self.beta = activation.p1, activation.p2, activation.beta

    def forward(self, x: Tensor) -> Tensor:
        """ACON-C of the normalised x, in x's shape and dtype."""
        norm: Any = self
        y = again(norm, x)
        if y is None:
            behind = Behind("acon_c", self.gate, self.p1, self.p2, self.beta)
            y = fused(x, norm, behind, Keeper(self, called=True))
        if y is not None:
            return y
        return functional.acon_c(super().forward(x), self.p1, self.p2, self.beta, gate=self.gate)

    def extra_repr(self) -> str:
        return _repr(super().extra_repr(), self.gate)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        _flatten(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class BatchNormAconC1d(_BatchNormAconC, nn.BatchNorm1d):
    """`BatchNormAconC2d` for (N, C) and (N, C, L)."""


class BatchNormAconC2d(_BatchNormAconC, nn.BatchNorm2d):
    """BatchNorm2d followed by ACON-C, in one layer that reads its input once and keeps nothing else for backward.

    Drop-in for the pair: the norm's arguments, buffers, behaviour and state-dict names are torch.nn.BatchNorm2d's, the
    activation's parameters are p1, p2 and beta, (C,) each. (torch.nn.SyncBatchNorm.convert_sync_batchnorm would take it
    for the norm alone: use the two layers there.)

    Args:
        num_features: C.
        eps: as in BatchNorm2d.
        momentum: likewise; None for the cumulative average.
        affine: likewise.
        track_running_stats: likewise.
        init: of p1, p2 and beta, as in `AconC`.
        gate: ``"sigmoid"`` or ``"hard"``.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    >>> layer = BatchNormAconC2d(8)
    >>> sorted(layer.state_dict())
    ['beta', 'bias', 'num_batches_tracked', 'p1', 'p2', 'running_mean', 'running_var', 'weight']
    >>> layer(torch.randn(4, 8, 5, 5)).shape
    torch.Size([4, 8, 5, 5])
    """


class BatchNormAconC3d(_BatchNormAconC, nn.BatchNorm3d):
    """`BatchNormAconC2d` for (N, C, D, H, W)."""


class _BatchNormMetaAconC(_BatchNorm):
    p1: nn.Parameter
    p2: nn.Parameter
    fc1: nn.Conv2d
    fc2: nn.Conv2d
    bn1: nn.BatchNorm2d | None
    bn2: nn.BatchNorm2d | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        r: int = 16,
        norm: Literal["batch"] | None = "batch",
        hidden: int | None = None,
        beta_scale: float = 1.0,
        init: Init = "paper",
        gate: str = "sigmoid",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        made = MetaAconC(
            *(num_features, r), norm=norm, hidden=hidden, beta_scale=beta_scale, init=init, gate=gate,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.gate, self.beta_scale = gate, made.beta_scale
        self.p1, self.p2 = made.p1, made.p2
        self.fc1, self.bn1, self.fc2, self.bn2 = made.fc1, made.bn1, made.fc2, made.bn2

    def forward(self, x: Tensor) -> Tensor:
        """Meta-ACON of the normalised x, in x's shape and dtype."""
        norm: Any = self
        y = again(norm, x)
        if y is None:
            y = fused_meta(x, norm, self, Keeper(self, called=True))
        if y is not None:
            return y
        z = super().forward(x)
        beta = self._generate(z)
        return functional.acon_c(z, self.p1, self.p2, beta, gate=self.gate)

    def _generate(self, z: Tensor) -> Tensor:
        values = pooled(z, 1, self.fc1.weight.dtype)
        for layer, norm in ((self.fc1, self.bn1), (self.fc2, self.bn2)):
            values = layer(values)
            if norm is None:
                continue
            if norm.training and len(values) == 1 and norm.running_mean is not None:  # as in MetaAconC
                buffers = norm.running_mean, norm.running_var
                values = F.batch_norm(values, *buffers, norm.weight, norm.bias, False, 0.0, norm.eps)
            else:
                values = norm(values)
        logits = values.flatten(1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return self.beta_scale * reference.gate_function(self.gate)(logits)

    def extra_repr(self) -> str:
        return _repr(super().extra_repr(), self.gate)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        _flatten(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class BatchNormMetaAconC1d(_BatchNormMetaAconC, nn.BatchNorm1d):
    """`BatchNormMetaAconC2d` for (N, C) and (N, C, L)."""


class BatchNormMetaAconC2d(_BatchNormMetaAconC, nn.BatchNorm2d):
    """BatchNorm2d followed by channel-wise Meta-ACON, in one layer: the pass that takes the statistics pools as well.

    Drop-in for the pair: the norm's names are BatchNorm2d's, the activation's those of `MetaAconC` (p1, p2, fc1, bn1,
    fc2, bn2).

    Args:
        num_features: C.
        eps: as in BatchNorm2d.
        momentum: likewise; None for the cumulative average.
        affine: likewise.
        track_running_stats: likewise.
        r: reduction; the generator's hidden width is max(r, C // r).
        norm: BatchNorms inside the generator, ``"batch"`` or None, as in `MetaAconC`.
        hidden: the hidden width where another is wanted.
        beta_scale: β lies in (0, beta_scale).
        init: of p1 and p2.
        gate: ``"sigmoid"`` or ``"hard"``.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    >>> BatchNormMetaAconC2d(32)(torch.randn(4, 32, 5, 5)).shape
    torch.Size([4, 32, 5, 5])
    """


class BatchNormMetaAconC3d(_BatchNormMetaAconC, nn.BatchNorm3d):
    """`BatchNormMetaAconC2d` for (N, C, D, H, W)."""
