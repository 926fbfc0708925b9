"""What every network of this room is told: a model by name and its activation, and where each of them comes from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import nn

from aconite.errors import SettingsError
from aconite.lab.networks.activating import Place, activate
from aconite.lab.networks.torchvision_bodies import torchvision_body, torchvision_classifier
from aconite.models import Features, create, stem_for
from aconite.nn import Init as NamedInit
from aconite.nn import MetaAconC, check_activation

__all__ = ["Choice", "Init", "Tell"]

Init = Literal["paper", "swish", "near-swish", "match"]
Tell = Callable[[str], object]
"""What hears of weights that were left out and of activations that stayed."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A model with an activation.

    Args:
        model: a name of `aconite.models.list_models`, or ``timm/NAME`` or ``torchvision/NAME``.
        activation: a name or formula; None for the model's own.
        init: where learnable activations start: "match" as the activation in whose place they are.
        se: squeeze-and-excitation, for our networks.
        channels: of the images.
        tell: hears of call sites whose activation had to stay.

    Raises:
        SettingsError: ``se`` or another source than ours, timm and torchvision.
        UnknownNameError: the activation is not known.
    """

    model: str
    activation: str | None
    init: Init = "paper"
    se: bool = False
    channels: int = 3
    tell: Tell

    def __post_init__(self) -> None:
        if self.activation is not None:
            with torch.random.fork_rng(devices=[]):  # a formula's check draws its values
                check_activation(self.activation)
        if self.init not in ("paper", "swish", "near-swish", "match"):
            raise SettingsError(f"init={self.init!r}: expected 'paper', 'swish', 'near-swish' or 'match'")
        if self.source not in ("", "timm", "torchvision"):
            raise SettingsError(
                f"model={self.model!r}: expected a name of aconite.models.list_models(), timm/NAME or torchvision/NAME"
            )
        if self.source and self.se:
            raise SettingsError(f"se is for our own networks, and {self.model} is not: leave it away")

    @property
    def source(self) -> str:
        """What stands before the slash: "timm", "torchvision", or nothing for ours."""
        return self.model.rpartition("/")[0]

    @property
    def name(self) -> str:
        """What the source calls the model."""
        return self.model.rpartition("/")[2]

    def stock(self) -> Choice:
        """The same model with its own activation."""
        return replace(self, activation=None)

    def whole(self, classes: int, image_size: int = 224) -> nn.Module:
        """The classification network."""
        if not self.source:
            return self._ours(image_size, num_classes=classes)
        if self.source == "timm":
            from aconite.integrations.timm import stock_classifier

            network = stock_classifier(self.name, classes=classes, channels=self.channels, image_size=image_size)
        else:
            network = torchvision_classifier(self.name, classes, self.channels)
        self._activate(network, image_size)
        return network

    def body(self, out_indices: Sequence[int]) -> nn.Module:
        """The feature maps with the numbers ``out_indices``; ``channels`` and ``strides`` say what they are."""
        if not self.source:
            body: nn.Module = self._ours(224, features_only=True, out_indices=out_indices)
            assert isinstance(body, Features)
            return body
        if self.source == "timm":
            from aconite.integrations.timm import stock_features

            body = stock_features(self.name, out_indices=out_indices, channels=self.channels)
            self._check_sizes(body)
        else:
            body = torchvision_body(self.name, out_indices, self.channels)
        self._activate(body, 64)
        return body

    def _check_sizes(self, body: nn.Module) -> None:
        """Whether it takes images of other sizes than it was made for, which most transformers do not."""
        try:
            with torch.no_grad():
                body.eval()(torch.zeros(1, self.channels, 64, 64))
        except Exception as error:  # each model has its own
            line = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
            raise SettingsError(
                f"{self.model} cannot be a backbone: it takes no image of 64×64 ({line}), and a backbone sees images "
                "of any size; choose a network of convolutions, such as timm/resnet50"
            ) from error
        body.train()

    def _ours(self, image_size: int, **options: Any) -> nn.Module:
        build = functools.partial(
            create, self.name, in_channels=self.channels, stem=stem_for(image_size), se=self.se, **options
        )
        activation = self.activation or "relu"
        if self.init != "match":
            return build(activation=activation, init=cast(NamedInit, self.init))
        network = build(activation=lambda channels: Place())
        given: dict[str, Any] = {}
        if activation.startswith("meta-acon"):  # whose width is the network's choice
            with torch.random.fork_rng(devices=[]):
                named = build(activation=activation, init="swish").modules()
            given["r"] = next(module.r for module in named if isinstance(module, MetaAconC))
        activate(network, activation, torch.zeros(2, self.channels, 64, 64), where=Place, tell=self.tell, **given)
        return network

    def _activate(self, network: nn.Module, size: int) -> None:
        example = torch.zeros(2, self.channels, size, size)
        activate(network, self.activation, example, where="paper", init=self.init, tell=self.tell)
