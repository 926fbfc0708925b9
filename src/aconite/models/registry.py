"""Networks by name: one record per network, and `create`, the one way to build any of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from aconite.errors import SettingsError, UnknownNameError
from aconite.models.features import Features
from aconite.models.initialisation import Rule
from aconite.models.layers import Factory
from aconite.models.stems import STEMS, Stem
from aconite.nn import Init, SqueezeExcite
from aconite.nn import activation as named_activation

__all__ = ["create", "list_models", "register"]


Options = Mapping[str, Mapping[str, Any]]
"""Arguments for named activations, by their name: ``{"meta-acon": {"r": 8}}``."""


class Build(Protocol):
    """Lays a network out; its weights are set afterwards, by the record's rule.

    The network calls ``activation`` at each site with its channel count. Where ``squeeze`` is given, each block's
    main branch ends in ``squeeze(channels)``, before the sum or concatenation; `conv_norm` takes it as it is. The
    network's body is ``stem``, ``pool`` if it has one, and ``stages``, a Sequential, and its attributes
    ``channels`` and ``strides`` say for each stage's output how many channels it has and how many pixels of the
    image a step there is.
    """

    def __call__(
        self, activation: Factory, *, squeeze: Factory | None, num_classes: int, in_channels: int, stem: Stem
    ) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the registry knows of a network."""

    build: Build
    rule: Rule
    options: Options = field(default_factory=dict)
    """What this network sets otherwise than an activation's defaults, Meta-ACON's r at its width for instance."""


_NETWORKS: dict[str, Network] = {}
_Build = TypeVar("_Build", bound=Build)


def register(name: str, *, rule: Rule, options: Options | None = None) -> Callable[[_Build], _Build]:
    """Enter the decorated constructor under ``name``; the other arguments are `Network`'s."""

    def enter(build: _Build) -> _Build:
        if name in _NETWORKS:
            raise SettingsError(f"a network named {name!r} is registered already: choose another name")
        _NETWORKS[name] = Network(build=build, rule=rule, options=options or {})
        return build

    return enter


def list_models() -> tuple[str, ...]:
    """The names that `create` knows, families together, small to large.

    >>> "shufflenetv2_x0_5" in list_models()
    True
    """
    return tuple(_NETWORKS)


def create(
    name: str,
    *,
    activation: str | Factory = "relu",
    num_classes: int = 1000,
    in_channels: int = 3,
    stem: str = "imagenet",
    init: Init = "paper",
    se: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> nn.Module:
    """Build the network ``name``: images (N, in_channels, H, W) to class scores (N, num_classes).

    ``activation`` is a name from `aconite.nn.activations` or a factory, which is called with the channel
    count of each site and returns a new module for it. ``init`` chooses a named activation's first
    parameters ("paper", "swish", "near-swish", or what `aconite.nn.from_activation` returns). ``stem`` fits
    the network to its images: "imagenet" from 96 pixels, "small" from 24, "tiny" below; `stem_for` picks
    it. With a fitting stem the last feature map is at least 2×2, so a batch of one image trains; under a
    stem too coarse for the image it shrinks to 1×1, where BatchNorm refuses such a batch.

    ``se`` ends each block's main branch in squeeze-and-excitation (r = 16), the paper's comparison for Meta-ACON.
    With ``features_only`` the network comes as `Features`, without head and classifier: images to the feature
    maps after the stages ``out_indices``, all of them if None.

    All other weights start as in the reference code, and are a function of torch's seed alone: whatever the
    activation, ``torch.manual_seed(s)`` before the call gives the same convolution, norm and linear weights
    and leaves torch's random stream in the same state. Activations draw from a stream of their own.
    Convolutions and norms inside a named activation (Meta-ACON's generator, a funnel) follow the network's rule
    too, as the reference code has it; a factory's modules keep what they came with. Neither ``se`` nor
    ``features_only`` changes a weight that both networks have.

    Raises:
        UnknownNameError: no network, stem or activation has this name; the message suggests the nearest.
        SettingsError: another argument is not one of the values above.

    Source: the paper's §4.1 and its public reference code; He et al. 2016 §4.2 for the CIFAR ResNets; Sandler et
    al. 2018 for MobileNetV2, whose usual activation is "relu6".

    >>> network = create("shufflenetv2_x0_5", activation="acon-c", num_classes=10, stem="small")
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if name not in _NETWORKS:
        raise UnknownNameError("network", name, _NETWORKS)
    if stem not in STEMS:
        raise UnknownNameError("stem", stem, STEMS)
    _check_count("num_classes", num_classes)
    _check_count("in_channels", in_channels)
    if out_indices is not None and not features_only:
        raise SettingsError(f"out_indices={out_indices!r} chooses feature maps: add features_only=True")
    network = _NETWORKS[name]
    sites, squeezes = _Sites(_factory(activation, init, network.options)), _Sites(_squeeze_excite)
    activation_seed, weight_seed = torch.randint(2**63 - 1, (2,), device="cpu").tolist()
    # Built on the CPU whatever the default device, so that one seed means one network everywhere.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(activation_seed)
        model = network.build(
            sites,
            squeeze=squeezes if se else None,
            num_classes=num_classes,
            in_channels=in_channels,
            stem=STEMS[stem],
        )
        inside = sites.modules()
        if isinstance(activation, str):
            # Not the norms of one that imitates another activation: they hold what it imitates.
            kinds = (nn.Conv2d, nn.BatchNorm2d) if isinstance(init, str) else nn.Conv2d
            for path, module in model.named_modules():
                if module in inside and isinstance(module, kinds):
                    network.rule(path, module)
        torch.default_generator.manual_seed(weight_seed)
        others = [(path, module) for path, module in model.named_modules() if module not in inside]
        squeezed = squeezes.modules()
        # Squeeze-and-excitation last: the rest draws what it draws without it.
        for path, module in sorted(others, key=lambda other: other[1] in squeezed):
            network.rule(path, module)
    if features_only:
        model = Features(model, out_indices)
    device = torch.get_default_device()
    return model if device.type == "cpu" else model.to(device)


def layout(name: str, activation: str, *, num_classes: int, in_channels: int) -> nn.Module:
    """What `create` would build, on the meta device: shapes without values, in a twentieth of a second."""
    network = _NETWORKS[name]
    sites = _factory(activation, "paper", network.options)
    with torch.device("meta"):
        return network.build(
            sites, squeeze=None, num_classes=num_classes, in_channels=in_channels, stem=STEMS["imagenet"]
        )


class _Sites:
    """What a network calls at each site; it remembers what it made, to tell activations from the rest."""

    def __init__(self, factory: Factory) -> None:
        self.factory, self.made = factory, list[nn.Module]()

    def __call__(self, channels: int) -> nn.Module:
        module = self.factory(channels)
        if not isinstance(module, nn.Module):
            raise SettingsError(
                f"the activation factory returned {module!r} for {channels} channels: expected a Module"
            )
        self.made.append(module)
        return module

    def modules(self) -> set[nn.Module]:
        return {module for made in self.made for module in made.modules()}


def _squeeze_excite(channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the stream is the activations'
        return SqueezeExcite(channels)


def _factory(activation: str | Factory, init: Init, options: Options) -> Factory:
    if isinstance(activation, str):
        return functools.partial(named_activation, activation, init=init, **options.get(activation, {}))
    if isinstance(activation, nn.Module):
        raise SettingsError(
            f"activation is a module, {activation}, which every site would share: "
            f"give a name, or a factory such as lambda channels: torch.nn.ReLU()"
        )
    if getattr(activation, "__module__", None) == nn.ReLU.__module__ and activation is not nn.PReLU:
        raise SettingsError(
            f"activation={activation.__name__} would take a site's channel count for an option of its own: "
            f"give a name, or lambda channels: torch.nn.{activation.__name__}()"
        )
    if not callable(activation):
        raise SettingsError(f"activation={activation!r}: expected a name or a factory channels -> torch.nn.Module")
    if init != "paper":
        raise SettingsError(f"init={init!r} speaks to a named activation: have the factory initialise its modules")
    return activation


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"{name}={value!r}: expected a whole number of at least 1")
