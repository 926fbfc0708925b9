"""Finer feature maps of the same weights: dilation in place of stride."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from aconite.errors import SettingsError

__all__ = ["dilate"]

_SIDE = 128  # pixels of the example: no stride leaves it one position


def dilate(body: nn.Module, output_stride: int, channels: int = 3) -> None:
    """Change a body's convolutions so that no map is coarser than ``output_stride``; ``strides`` follows.

    A convolution that would go beyond it keeps its resolution, and those after it are dilated by what the map has been
    spared: at every ``stride / output_stride``-th pixel the new maps are the old ones. In a ResNet with output stride 8
    these are the paper's dilations by 2 and 4 in the last two stages.

    Args:
        body: images (N, channels, H, W) to a list of maps; with ``strides``, one for each.
        output_stride: a power of 2.
        channels: of the images.

    Raises:
        SettingsError: the body shrinks its maps by other means than convolutions.
    """
    if output_stride not in (1, 2, 4, 8, 16, 32, 64):
        raise SettingsError(f"output_stride={output_stride!r}: expected a power of 2, such as 8 or 16")
    whole: Any = body
    if max(whole.strides) <= output_stride:
        return
    seen = _strides_seen(body, channels)
    for conv, stride in seen.items():
        rate = max(1, stride // output_stride)
        steps = tuple(1 if stride * step > output_stride else step for step in conv.stride)
        conv.stride = steps
        conv.dilation = tuple(rate * by for by in conv.dilation)
        if not isinstance(conv.padding, str):
            conv.padding = tuple(rate * by for by in conv.padding)
    try:
        strides = tuple(_SIDE // y.shape[-1] for y in _maps(body, channels))
    except (RuntimeError, ValueError):  # of two maps that are to be added one is finer now
        strides = whole.strides
    if max(strides) > output_stride:
        raise SettingsError(
            f"the maps cannot be kept at stride {output_stride}: the network shrinks them by more than convolutions. "
            "ShuffleNetV2, MobileNetV2 and the ResNets of 18 layers and from 50 on can be dilated, and so can most "
            "of timm's and torchvision's"
        )
    whole.strides = strides


def _strides_seen(body: nn.Module, channels: int) -> dict[nn.Conv2d, int]:
    """How many pixels of the image a step is in what each convolution sees; pooled inputs are left out."""
    seen = dict[nn.Conv2d, int]()

    def note(conv: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        if args[0].shape[-1] > 1:
            seen[conv] = _SIDE // args[0].shape[-1]

    hooks = [m.register_forward_pre_hook(note) for m in body.modules() if isinstance(m, nn.Conv2d)]
    try:
        _maps(body, channels)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _maps(body: nn.Module, channels: int) -> Any:
    modes = [(module, module.training) for module in body.modules()]
    weight = next(body.parameters())
    try:
        with torch.no_grad():
            return body.eval()(torch.zeros(1, channels, _SIDE, _SIDE, device=weight.device, dtype=weight.dtype))
    finally:
        for module, training in modes:
            module.training = training
