"""What is known of a layer: running sums over the data, and the record made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aconite.inspection.parameters import ShapeParameters

__all__ = ["ACTIVATED", "FLAT", "LINEAR", "LayerStatistics", "RunningSums", "others"]

FLAT = 0.01
"""A value is saturated where the function's slope is below this."""
LINEAR = 0.2
"""A channel is linear where the gate's argument z = β(p1 − p2)x stays below this (root mean square)."""
ACTIVATED = 2.5
"""A channel is activated, as good as the maximum, where it is above this.

For normal inputs around 0 and p1 = 1, p2 = 0, a straight line misses 1.9 % of the output's variance at the first
threshold, and the maximum 1.8 % at the second.
"""
_STILL = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerStatistics:
    """One activation layer over all data seen; tensors are float64, one number per channel.

    Attributes:
        kind: the layer's class.
        count: how many values of a channel were seen.
        mean: of the output.
        std: of the output, over the ``count`` values.
        low: the least output.
        high: the greatest output.
        dead: channels whose output never moves: its range is at most a millionth of the input's. Of ReLU those that
            never see a positive input.
        nonlinearity: 1 − R² of the best straight line through the channel's pairs (input, output): 0 for a linear
            channel, 0.27 for ReLU on normal inputs around 0, 1 where no line explains anything. Dead channels are
            constant, so 0. None where output and input differ in shape.
        saturation: the share of values where the function's slope is below 0.01 in size; None for layers whose output
            depends on other pixels too, Meta-ACON apart (its slope is taken at the generated β).
        swing: the root mean square of z = β(p1 − p2)x, the gate's argument; None for layers without one.
        parameters: p1, p2 and β; β is the mean over all data where it is generated. None for layers without them.
        image_betas: the generated β of the first images: (images, C), or (images, C·H·W) for the pixel-wise layer.
        gradient: the root mean square of the loss's gradient by the output; None without a backward pass.
    """

    kind: str
    count: int
    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    dead: Tensor
    nonlinearity: Tensor | None
    saturation: Tensor | None
    swing: Tensor | None
    parameters: ShapeParameters | None
    image_betas: Tensor | None
    gradient: Tensor | None

    @property
    def channels(self) -> int:
        """C."""
        return self.mean.numel()

    @property
    def dead_share(self) -> float:
        """The share of channels that are dead."""
        return float(self.dead.double().mean())

    @property
    def offset(self) -> float:
        """|mean| / root mean square, averaged over the channels that are not dead; 0 is zero-centred, ReLU on normal
        inputs around 0 has 0.56, 1 is constant.
        """
        size = (self.mean.square() + self.std.square()).sqrt()
        alive = ~self.dead & (size > 0)
        return float((self.mean[alive].abs() / size[alive]).mean()) if bool(alive.any()) else 0.0

    @property
    def states(self) -> dict[str, float] | None:
        """The shares of linear, switching and activated channels, by ``swing``: below 0.2, between, above 2.5."""
        if self.swing is None:
            return None
        linear, activated = self.swing < LINEAR, self.swing > ACTIVATED
        shares = {"linear": linear, "switching": ~(linear | activated), "activated": activated}
        return {name: float(share.double().mean()) for name, share in shares.items()}

    def as_row(self) -> dict[str, Any]:
        """Everything as numbers, strings and lists, for JSON."""
        row = {
            "kind": self.kind, "channels": self.channels, "count": self.count, "dead_share": self.dead_share,
            "offset": self.offset, "states": self.states,
        }  # fmt: skip
        for name in ("mean", "std", "low", "high", "dead", "nonlinearity", "saturation", "swing", "gradient"):
            value = getattr(self, name)
            row[name] = None if value is None else value.tolist()
        for name in ShapeParameters._fields:
            value = getattr(self.parameters, name, None)
            row[name] = None if value is None else value.tolist()
        row["image_betas"] = None if self.image_betas is None else self.image_betas.tolist()
        return row


@dataclass
class RunningSums:
    """Sums over batches, in float64, that lose no digits where the mean is large (Chan, Golub, LeVeque 1983)."""

    kind: str
    images: int
    count: int = 0
    paired: bool = True
    sums: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)
    gradients: int = 0
    image_betas: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor, y: Tensor, c: int) -> None:
        """Input and output of one call, with the channels at ``c``."""
        new, y_apart = _moments(y, "y", c)
        self.paired = self.paired and x.shape == y.shape
        if self.paired:
            of_input, x_apart = _moments(x, "x", c)
            new |= of_input | {"xy": (x_apart * y_apart).sum(others(y, c))}
        else:
            new |= _range(x, "x", c)
        count = y.numel() // y.shape[c]
        self.sums = _merged(self.sums, self.count, new, count) if self.count else new
        self.count += count

    def add_sum(self, name: str, totals: Tensor) -> None:
        """(C,), which is added to what stands under the name."""
        self.extra[name] = self.extra[name] + totals if name in self.extra else totals.double()

    def add_betas(self, betas: Tensor) -> None:
        """(images, numbers) of the next images; those beyond the wanted number are let go."""
        room = self.images - sum(map(len, self.image_betas))
        if room > 0:
            self.image_betas.append(betas[:room].double().cpu())

    def finish(self, parameters: ShapeParameters | None) -> LayerStatistics:
        sums = {name: value.cpu() for name, value in self.sums.items()}
        extra = {name: value.cpu() for name, value in self.extra.items()}
        dead = sums["y high"] - sums["y low"] <= _STILL * (sums["x high"] - sums["x low"])
        if parameters is not None and "beta" in extra:
            mean = extra["beta"] / self.count
            parameters = ShapeParameters(parameters.p1, parameters.p2, mean)
        return LayerStatistics(
            kind=self.kind, count=self.count, mean=sums["y mean"], std=(sums["y square"] / self.count).sqrt(),
            low=sums["y low"], high=sums["y high"], dead=dead,
            nonlinearity=_unexplained(sums, dead) if self.paired else None,
            saturation=extra["flat"] / self.count if "flat" in extra else None,
            swing=(extra["z square"] / self.count).sqrt() if "z square" in extra else None,
            parameters=parameters,
            image_betas=torch.cat(self.image_betas) if self.image_betas else None,
            gradient=(extra["gradient"] / self.gradients).sqrt() if self.gradients else None,
        )  # fmt: skip


def others(x: Tensor, c: int) -> list[int]:
    """The dimensions that are not the channels'."""
    return [d for d in range(x.ndim) if d != c]


def _moments(values: Tensor, name: str, c: int) -> tuple[dict[str, Tensor], Tensor]:
    """Mean, sum of squares around it and range, (C,) each; and the values as far as they are apart from the mean."""
    rest = others(values, c)
    wide = values.double()
    mean = wide.mean(rest, keepdim=True)
    apart = wide - mean
    square = torch.linalg.vector_norm(apart, dim=rest).square()
    return {f"{name} mean": mean.flatten(), f"{name} square": square} | _range(values, name, c), apart


def _range(values: Tensor, name: str, c: int) -> dict[str, Tensor]:
    rest = others(values, c)
    return {f"{name} low": values.amin(rest).double(), f"{name} high": values.amax(rest).double()}


def _merged(old: dict[str, Tensor], old_count: int, new: dict[str, Tensor], new_count: int) -> dict[str, Tensor]:
    total = old_count + new_count
    weight = old_count * new_count / total
    merged = {}
    for name in new:
        variable, _, what = name.partition(" ")
        if what == "low":
            merged[name] = torch.minimum(old[name], new[name])
        elif what == "high":
            merged[name] = torch.maximum(old[name], new[name])
        elif what == "mean":
            merged[name] = old[name] + (new[name] - old[name]) * (new_count / total)
        else:
            apart = [new[f"{part} mean"] - old[f"{part} mean"] for part in ("xy" if variable == "xy" else 2 * variable)]
            merged[name] = old[name] + new[name] + weight * apart[0] * apart[1]
    return merged


def _unexplained(sums: dict[str, Tensor], dead: Tensor) -> Tensor:
    """1 − R²."""
    variance = sums["x square"] * sums["y square"]
    explained = torch.where(variance > 0, sums["xy"].square() / variance, torch.ones_like(variance))
    return torch.where(dead, torch.zeros_like(explained), (1 - explained).clamp(0, 1))
