"""What a fused pair is made of: a norm that computes its activation too, and an activation that lets its input pass.

Only the class of the two instances changes. Attributes, children, Parameters and state-dict keys stay, and
`isinstance` still finds the original classes.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aconite.errors import AconiteError, SettingsError
from aconite.nn import AconA, AconB, AconC, Keeper, MetaAconC, again, run_pair
from aconite.surgery.hooks import has_hooks

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "FusedAconA",
    "FusedAconB",
    "FusedAconC",
    "FusedBatchNorm1d",
    "FusedBatchNorm2d",
    "FusedBatchNorm3d",
    "FusedMetaAconC",
    "FusedReLU",
    "FusedSiLU",
    "join",
    "restore",
]

_APPLIED = "_aconite_applied"
"""The attribute of a fused norm's output that names the activation which it has gone through already."""


def _as_it_was(module: nn.Module) -> nn.Module:
    """The layer before it was fused: its original class around the same attributes.

    Made for each call (0.5 µs). Kept, it would be a cycle, and a deleted model would hold its memory until the next
    garbage collection.
    """
    layer: nn.Module = object.__new__(_ORIGINALS[type(module)])
    object.__setattr__(layer, "__dict__", module.__dict__)  # nn.Module.__setattr__ takes 2 µs
    return layer


class _FusedNorm(_BatchNorm):
    fused_activation: nn.Module | None

    def forward(self, input: Tensor) -> Tensor:
        activation = self.fused_activation
        y = again(self, input, activation)
        if y is None:
            y = self._anew(input, activation)
        if activation is not None and not torch.compiler.is_compiling():
            y.__dict__[_APPLIED] = activation
        return y

    def _anew(self, input: Tensor, activation: nn.Module | None) -> Tensor:
        if has_hooks(self) or (activation is not None and has_hooks(activation)):
            # They run around this call and the activation's own; a call of the originals would run them again.
            y = _BatchNorm.forward(self, input)
            return y if activation is None else _ORIGINALS[type(activation)].forward(activation, y)
        norm: Any = _as_it_was(self)
        behind = None if activation is None else _as_it_was(activation)
        return run_pair(input, norm, behind, Keeper(self, activation))

    def extra_repr(self) -> str:
        own: str = super().extra_repr()  # type: ignore[no-untyped-call]
        inside = self.fused_activation
        return own if inside is None else f"{own}, then {type(inside).__name__}"

    def _replicate_for_data_parallel(self) -> Self:
        # A replica's activation would be the original, on another device.
        raise SettingsError("nn.DataParallel cannot copy a fused model: use DistributedDataParallel, or unfuse it")


class _Passing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        # Whoever replaced the norm (SyncBatchNorm.convert_sync_batchnorm does) would lose the activation unnoticed.
        if not torch.compiler.is_compiling() and x.__dict__.pop(_APPLIED, None) is not self:
            raise AconiteError(
                f"{type(self).__name__} is fused into the BatchNorm before it, but this input does not come from "
                "there: the norm was replaced, or the model runs otherwise than on the example inputs; call "
                "aconite.unfuse first"
            )
        return x


class FusedBatchNorm1d(_FusedNorm, nn.BatchNorm1d):
    """BatchNorm1d and the activation after it."""


class FusedBatchNorm2d(_FusedNorm, nn.BatchNorm2d):
    """BatchNorm2d and the activation after it."""


class FusedBatchNorm3d(_FusedNorm, nn.BatchNorm3d):
    """BatchNorm3d and the activation after it."""


class FusedAconA(_Passing, AconA):
    """Holds the parameters of an AconA that the norm before it computes."""


class FusedAconB(_Passing, AconB):
    """Holds the parameters of an AconB that the norm before it computes."""


class FusedAconC(_Passing, AconC):
    """Holds the parameters of an AconC that the norm before it computes."""


class FusedMetaAconC(_Passing, MetaAconC):
    """Holds the parameters of a MetaAconC that the norm before it computes."""


class FusedReLU(_Passing, nn.ReLU):
    """A ReLU that the norm before it computes."""


class FusedSiLU(_Passing, nn.SiLU):
    """A SiLU that the norm before it computes."""


NORMS: dict[type[nn.Module], type[_FusedNorm]] = {
    nn.BatchNorm1d: FusedBatchNorm1d,
    nn.BatchNorm2d: FusedBatchNorm2d,
    nn.BatchNorm3d: FusedBatchNorm3d,
}
ACTIVATIONS: dict[type[nn.Module], type[_Passing]] = {
    AconA: FusedAconA,
    AconB: FusedAconB,
    AconC: FusedAconC,
    MetaAconC: FusedMetaAconC,
    nn.ReLU: FusedReLU,
    nn.SiLU: FusedSiLU,
}
_ORIGINALS: dict[type[nn.Module], type[nn.Module]] = {
    fused: original for classes in (NORMS, ACTIVATIONS) for original, fused in classes.items()
}


def join(norm: nn.Module, activation: nn.Module | None) -> None:
    """Have ``norm`` compute ``activation`` as well."""
    # Not through setattr, which would register the activation a second time, under the norm.
    norm.__dict__["fused_activation"] = activation
    norm.__class__ = NORMS[type(norm)]
    if activation is not None:  # one that several norms share is swapped already
        activation.__class__ = ACTIVATIONS.get(type(activation), type(activation))


def restore(module: nn.Module) -> bool:
    """Give a fused norm or activation its own class back; False where it is neither."""
    original = _ORIGINALS.get(type(module))
    if original is None:
        return False
    module.__class__ = original
    module.__dict__.pop("fused_activation", None)
    return True
