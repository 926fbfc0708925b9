"""How far a converted model is from what it was, measured on the example inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from aconite.surgery.callsites import Site

__all__ = ["Deviations", "output_deviation"]


class Deviations:
    """The largest difference between each new layer and the activation in whose place it came, on the same input."""

    def __init__(self, layers: Mapping[Site, nn.Module]) -> None:
        self._layers = dict(layers)
        self._found: dict[Site, list[float]] = {}
        """For each site that was called, the differences; none on the meta device."""

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Compare at every call of the layers while the block runs."""
        handles = [layer.register_forward_hook(self._compare(site)) for site, layer in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compare(self, site: Site) -> Any:
        def compare(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
            # Out of sight of who watches the model's own calls; a clone, since the original may work in place.
            with torch._C.DisableTorchFunction():
                wanted = type(site.original).forward(site.original, args[0].detach().clone())
            self._found.setdefault(site, []).extend([] if y.is_meta else [_distance(y, wanted)])

        return compare

    def unreached(self) -> list[Site]:
        """The sites whose layer was never called."""
        return [site for site in self._layers if site not in self._found]

    def of(self, site: Site) -> float | None:
        """To two digits; None where nothing was measured."""
        found = self._found.get(site)
        return float(f"{_largest(found):.2g}") if found else None


def output_deviation(before: Mapping[bool, Any], after: Mapping[bool, Any]) -> tuple[float, float] | None:
    """The largest difference of two results and the largest value of the first; of evaluation mode if it ran there."""
    mode = next((mode for mode in (False, True) if mode in before and mode in after), None)
    if mode is None:
        return None
    (old, form), (new, new_form) = tree_flatten(before[mode]), tree_flatten(after[mode])
    pairs = [(a, b) for a, b in zip(old, new, strict=False) if isinstance(a, Tensor) and a.is_floating_point()]
    if form != new_form or not pairs or any(a.shape != b.shape or a.is_meta for a, b in pairs):
        return None
    scales = [float(a.detach().abs().max()) if a.numel() else 0.0 for a, _ in pairs]
    return _largest([_distance(a, b) for a, b in pairs]), _largest(scales)


def _largest(values: list[float]) -> float:
    """The maximum, which is NaN where one is."""
    return max(values, key=lambda value: (math.isnan(value), value))


def _distance(a: Tensor, b: Tensor) -> float:
    if not a.numel():
        return 0.0
    with torch.no_grad():
        # Equal infinities are no distance.
        return float(torch.where(a == b, 0.0, (a - b).abs().float()).max())
