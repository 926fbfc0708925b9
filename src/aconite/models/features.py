"""A network as a backbone: the feature maps after its stages, for detection and segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from aconite.errors import SettingsError

__all__ = ["Features"]


class Features(nn.Module):
    """The body of a network of `create`: images (N, C, H, W) to a list of feature maps, one for each out index.

    Index i is the map after ``stages[i]``, -1 the last one; (-3, -2, -1) are the maps of strides 8, 16 and 32 in
    every network with the "imagenet" stem, except the CIFAR ResNets. The maps come in the indices' order. Stages
    after the last one asked for, head and classifier are left out.

    Parameters are called as in the network, and its state dict loads as it is: entries of what is left out are
    passed over, everything else must fit.

    Args:
        network: what `create` returns; its modules are used, not copied.
        out_indices: the stages, or None for all.

    Attributes:
        channels: of each map.
        strides: pixels of the image to a step in each map; sizes are rounded up.

    Raises:
        SettingsError: the network has no such stage, an index comes twice, or it is no network of `create`.

    >>> import torch, aconite
    >>> backbone = aconite.models.create("resnet18", features_only=True, out_indices=(1, 2, 3))
    >>> backbone.channels, backbone.strides
    ((128, 256, 512), (8, 16, 32))
    >>> [tuple(y.shape) for y in backbone(torch.zeros(1, 3, 64, 96))]
    [(1, 128, 8, 12), (1, 256, 4, 6), (1, 512, 2, 3)]
    >>> backbone.load_state_dict(aconite.models.create("resnet18", num_classes=10).state_dict())
    <All keys matched successfully>
    """

    def __init__(self, network: nn.Module, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        if not all(hasattr(network, name) for name in ("stem", "stages", "channels", "strides")):
            raise SettingsError(
                f"{type(network).__name__} has no known stages: give a network of aconite.models.create"
            )
        whole: Any = network
        count = len(whole.stages)
        self.out_indices = tuple(range(count)) if out_indices is None else _checked(out_indices, count)
        self.channels: tuple[int, ...] = tuple(whole.channels[index] for index in self.out_indices)
        self.strides: tuple[int, ...] = tuple(whole.strides[index] for index in self.out_indices)
        self.stem = whole.stem
        self.pool = getattr(whole, "pool", nn.Identity())
        self.stages = whole.stages[: max(self.out_indices) + 1]
        kept = self.state_dict().keys()
        self._left_out = frozenset(key for key in network.state_dict() if key not in kept)

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.pool(self.stem(x)), {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                maps[index] = x
        return [maps[index] for index in self.out_indices]

    def extra_repr(self) -> str:
        return f"out_indices={self.out_indices}, channels={self.channels}, strides={self.strides}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key in self._left_out:
            state_dict.pop(prefix + key, None)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _checked(out_indices: Sequence[int], stages: int) -> tuple[int, ...]:
    """The indices counted from the front."""
    is_list = isinstance(out_indices, Sequence) and not isinstance(out_indices, str)
    if not is_list or not out_indices or any(type(index) is not int for index in out_indices):
        raise SettingsError(f"out_indices={out_indices!r}: expected stages by number, such as (-3, -2, -1)")
    if unknown := [index for index in out_indices if not -stages <= index < stages]:
        raise SettingsError(
            f"out_indices={out_indices!r}: there is no stage {unknown[0]}; this network has {stages}, "
            f"0 to {stages - 1} or {-stages} to -1"
        )
    indices = tuple(index % stages for index in out_indices)
    if len(set(indices)) < len(indices):
        raise SettingsError(f"out_indices={out_indices!r} names a stage twice: each map comes once")
    return indices
