"""The layer that comes to a call site, with the values it starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from aconite.errors import SettingsError
from aconite.nn import (
    AconA,
    AconB,
    AconC,
    AconFReLU,
    FReLU,
    Match,
    Maxout,
    MetaAconC,
    PReLU,
    activation,
    from_activation,
)
from aconite.surgery.callsites import Site

__all__ = ["Target"]

_CLASSES: dict[type[nn.Module], str] = {
    AconA: "acon-a", AconB: "acon-b", AconC: "acon-c", MetaAconC: "meta-acon", Maxout: "maxout", PReLU: "prelu",
}  # fmt: skip


@dataclass
class Target:
    """What is put at the sites.

    Args:
        to: a name of `aconite.nn.activations`, or a factory ``channels -> Module``.
        init: "match", or what the layers take.
        tolerance: of a match.
        allow_pooling: Meta-ACON also where it would average over a sequence.
        options: of the layer's constructor.
    """

    to: str | Callable[..., nn.Module]
    init: Any
    tolerance: float
    allow_pooling: bool
    options: Mapping[str, Any]
    _matches: dict[str, Match] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.to, type) and self.to in _CLASSES:
            self.to = _CLASSES[self.to]
        if isinstance(self.to, nn.Module):
            raise SettingsError(f"to is one layer, {self.to}: expected a name, a class or a factory, for one at each")
        if not isinstance(self.to, str) and not callable(self.to):
            raise SettingsError(f"to={self.to!r}: expected a name such as 'acon-c', or a factory channels -> Module")
        if not (isinstance(self.tolerance, int | float) and 0 < self.tolerance < math.inf):
            raise SettingsError(f"tolerance={self.tolerance!r}: expected a positive number, 0.01 for instance")
        self.kind: type[nn.Module] | None = None
        if isinstance(self.to, str):
            # A wrong name, init or option is one error, not a reason at every site.
            with torch.random.fork_rng([]):
                self.kind = type(self._layer(1, 1, None))
        elif self.init not in ("match", None):
            raise SettingsError(
                f"init={self.init!r} is for names: the layers of a factory start as the factory makes them"
            )

    def layer(self, site: Site, dtype: torch.dtype) -> nn.Module:
        """A new layer for the site.

        Raises:
            AconiteError: it cannot come there; the message is the reason.
        """
        assert site.channels is not None
        assert site.channel_dim is not None
        if type(site.original) is self.kind:
            raise SettingsError(f"is {self.kind.__name__} already")
        match = self._match(site.original) if self.init == "match" else None
        layer = self._layer(site.channels, site.channel_dim, match)
        if isinstance(layer, MetaAconC) and layer.granularity != "pixel":
            if site.pooled:
                raise SettingsError("pooled to one position already, so that Meta-ACON has nothing to pool")
            if len(site.shape) == 3 and not self.allow_pooling:
                raise SettingsError(
                    f"Meta-ACON would average over a sequence {site.shape}, later and masked positions too; where that "
                    "is right pass allow_pooling=True"
                )
        if isinstance(layer, FReLU | AconFReLU) and len(site.shape) != 4:
            raise SettingsError(f"{self.to} looks at neighbouring pixels, and the input here is {site.shape}")
        return layer.to(site.device, dtype).train(site.original.training)

    def _match(self, original: nn.Module) -> Match | None:
        if self.kind not in _CLASSES:
            return None  # nothing of it can be set
        gate = self.options.get("gate", "sigmoid")
        if any(True for _ in original.parameters()):
            return from_activation(original, tolerance=self.tolerance, gate=gate)
        key = f"{type(original).__module__}.{original!r}"
        if key not in self._matches:
            self._matches[key] = from_activation(original, tolerance=self.tolerance, gate=gate)
        return self._matches[key]

    def _layer(self, channels: int, channel_dim: int, match: Match | None) -> nn.Module:
        options = dict(self.options)
        if not isinstance(self.to, str):
            where = {} if channel_dim == 1 else {"channel_dim": channel_dim}
            try:
                made = self.to(channels, **where, **options)
            except TypeError as error:
                given = ", ".join([str(channels), *(f"{name}={value!r}" for name, value in (where | options).items())])
                raise SettingsError(f"the factory does not take ({given}): {error}") from error
            if not isinstance(made, nn.Module):
                raise SettingsError(f"to={self.to!r} made a {type(made).__name__}, expected a torch.nn.Module")
            return made
        init: Any = "swish" if self.init == "match" else self.init
        if match is not None:
            if self.to.startswith("meta-acon"):
                highest = float(torch.as_tensor(match.beta).max())
                options.setdefault("beta_scale", 2 * highest if highest > 0 else 1.0)
            if self.to == "acon-b":
                match = replace(match, p1=1.0)
            if self.to not in ("acon-a", "swish", "prelu"):
                init = match
        layer = activation(self.to, channels, init=init, channel_dim=channel_dim, **options)
        if match is not None and isinstance(layer, AconA) and isinstance(layer.beta, Tensor):
            _fill(layer.beta, match.beta)
        if match is not None and isinstance(layer, PReLU):
            _fill(layer.weight, match.p2)
        return layer


def _fill(parameter: Tensor, value: float | Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(torch.as_tensor(value).to(parameter).expand_as(parameter))
