"""torchvision's classification networks, and their feature maps; the door of ``torchvision.models`` for backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aconite.errors import MissingExtraError, SettingsError, UnknownNameError

__all__ = ["TorchvisionBody", "torchvision_body", "torchvision_classifier"]

# The children that a family's maps come from, in the order of their calls; Sequentials are entered.
_FAMILIES: dict[str, tuple[str, ...]] = {
    "ResNet": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    "RegNet": ("stem", "trunk_output"),
    "ShuffleNetV2": ("conv1", "maxpool", "stage2", "stage3", "stage4"),
    "MobileNetV2": ("features",),
    "MobileNetV3": ("features",),
    "EfficientNet": ("features",),
    "ConvNeXt": ("features",),
}
_HEADED = ("MobileNetV2", "MobileNetV3", "EfficientNet")  # whose last feature layer is the classifier's 1×1 convolution
_OPTIONS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}


def torchvision_classifier(name: str, classes: int, channels: int) -> nn.Module:
    """The network that torchvision calls ``name``, untrained.

    Raises:
        UnknownNameError: torchvision has none of this name.
        SettingsError: images of other than 3 channels.
        MissingExtraError: torchvision is not installed.
    """
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "torchvision").partition(".")[0], "vision") from error
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("network of torchvision", name, known)
    if channels != 3:
        raise SettingsError(f"torchvision's networks take images of 3 channels, not {channels}")
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **_OPTIONS.get(name, {}))
    return network


def torchvision_body(name: str, out_indices: Sequence[int], channels: int) -> TorchvisionBody:
    """The feature maps of the network that torchvision calls ``name``; errors as `torchvision_classifier` and
    `TorchvisionBody`.
    """
    return TorchvisionBody(torchvision_classifier(name, 1000, channels), out_indices)


class TorchvisionBody(nn.Module):
    """The last map at each resolution of a network's body: images (N, 3, H, W) to a list of maps.

    Parameters are called as in the network.

    Args:
        network: of one of the known families; its modules are used, not copied.
        out_indices: which maps, from the finest, or by negative numbers from the coarsest.

    Attributes:
        channels: of each map.
        strides: pixels of the image to a step in each map.

    Raises:
        SettingsError: a network of another family, or no such map.
    """

    def __init__(self, network: nn.Module, out_indices: Sequence[int]) -> None:
        super().__init__()
        family = type(network).__name__
        if family not in _FAMILIES:
            raise SettingsError(
                f"the feature maps of torchvision's {family} are not known here; choose among {', '.join(_FAMILIES)}, "
                "or the network of timm"
            )
        for part in _FAMILIES[family]:
            self.add_module(part, getattr(network, part))
        if family in _HEADED:
            self.features = network.get_submodule("features")[:-1]  # type: ignore[index]
        self.picks = (*range(len(self._steps())),)
        with torch.no_grad():
            self.eval()
            maps = self(torch.zeros(1, 3, 64, 64))
            self.train()
        sides = [y.shape[-1] for y in maps]
        last = [index for index, side in enumerate(sides) if side not in sides[index + 1 :]]
        if unknown := [index for index in out_indices if not -len(last) <= index < len(last)]:
            raise SettingsError(f"out_indices={tuple(out_indices)!r}: there is no map {unknown[0]} of {len(last)}")
        self.picks = tuple(last[index] for index in out_indices)
        self.channels = tuple(maps[pick].shape[1] for pick in self.picks)
        self.strides = tuple(64 // sides[pick] for pick in self.picks)

    def _steps(self) -> list[nn.Module]:
        return [
            step
            for part in self.children()
            for step in (part.children() if isinstance(part, nn.Sequential) else (part,))
        ]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = {}
        for number, step in enumerate(self._steps()):
            x = step(x)
            if number in self.picks:
                maps[number] = x
        return [maps[pick] for pick in self.picks]
