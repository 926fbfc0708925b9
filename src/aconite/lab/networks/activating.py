"""Activations in the place of a finished network's own, such that nothing else depends on which they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aconite.nn import activation as named_activation
from aconite.surgery import convert

__all__ = ["Place", "activate"]


class Place(nn.ReLU):
    """A site of the chosen activation in one of our networks; the sites that stay ReLU are of torch's class."""


def activate(
    network: nn.Module,
    activation: str | None,
    example: Tensor | tuple[Any, ...],
    *,
    where: Any = "all",
    init: str = "match",
    tell: Callable[[str], object],
    **options: Any,
) -> None:
    """Convert the network in place; ``tell`` hears of wanted sites that keep their activation. None keeps all.

    The layers draw from a stream of their own: with one seed, whatever is drawn afterwards is the same for every
    activation.

    Raises:
        SettingsError: no site can be converted.
    """
    seed = int(torch.randint(2**63 - 1, (), device="cpu"))
    if activation is None:
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fixed = not any(True for _ in named_activation(activation, 1).parameters())
        # By name, convert refuses to put a ReLU in a ReLU's place, which a baseline asks for.
        to: Any = (lambda channels, channel_dim=1: named_activation(activation)) if fixed else activation
        _, changes = convert(
            network, to, example_inputs=example, where=where, init="match" if fixed else init, inplace=True, **options
        )
    left = [row for row in changes if row.now is None and row.reason != "not among where="]
    if left:
        first = f"{left[0].site} ({left[0].was}): {left[0].reason}"
        tell(f"{len(left)} of {len(changes)} activations stay as they are; {first}")
