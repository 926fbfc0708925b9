"""The price of BatchNorm and the activation behind it, fused, in the time of stock BatchNorm + ReLU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aconite.bench.memory import saved_bytes
from aconite.bench.timing import quantiles, ratios, take_turns
from aconite.nn import AconC, MetaAconC, norm_activation

__all__ = ["NORM_SHAPES", "measure_norms"]

NORM_SHAPES: tuple[tuple[int, ...], ...] = (
    (32, 64, 56, 56),
    (32, 256, 14, 14),
    (16, 24, 56, 56),
    (16, 96, 14, 14),
    (8, 1024, 7, 7),
    (16, 24, 112, 112),
)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class _Pair(nn.Module):
    def __init__(self, channels: int, activation: nn.Module | None, fused: bool) -> None:
        super().__init__()
        self.norm, self.activation, self.fused = nn.BatchNorm2d(channels), activation, fused

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return norm_activation(x, self.norm, self.activation)
        y: Tensor = self.norm(x)
        return y if self.activation is None else self.activation(y)


def _pairs(channels: int) -> dict[str, _Pair]:
    return {
        "bn + relu": _Pair(channels, nn.ReLU(inplace=True), False),
        "bn + silu": _Pair(channels, nn.SiLU(), False),
        "bn + acon-c": _Pair(channels, AconC(channels), False),
        "bn + meta-acon": _Pair(channels, MetaAconC(channels), False),
        "fused bn": _Pair(channels, None, True),
        "fused bn + relu": _Pair(channels, nn.ReLU(), True),
        "fused bn + acon-c": _Pair(channels, AconC(channels), True),
        "fused bn + meta-acon": _Pair(channels, MetaAconC(channels), True),
    }


def _training(pair: _Pair, x: Tensor, grad: Tensor) -> Callable[[], object]:
    leaf = x.detach().requires_grad_()
    held = [leaf, *pair.parameters()]

    def call() -> object:
        for tensor in held:
            tensor.grad = None
        pair(leaf).backward(grad)
        return leaf.grad

    return call


def measure_norms(
    shape: Sequence[int], layout: str = "contiguous", *, dtype: torch.dtype = torch.float32, seconds: float = 3.0
) -> list[dict[str, Any]]:
    """One row for each pair, forward + backward in training: milliseconds, and the ratio to BatchNorm + ReLU(inplace)
    of the same round and layout, as p20, p50, p80.

    Args:
        shape: (N, C, H, W).
        layout: ``"contiguous"`` or ``"channels_last"``.
        dtype: of the input; parameters stay float32.
        seconds: about how long.
    """
    torch.manual_seed(0)
    x = torch.randn(tuple(shape)).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    grad = torch.randn_like(x)
    pairs = _pairs(shape[1])
    times = take_turns({name: _training(pair, x, grad) for name, pair in pairs.items()}, seconds=seconds)
    leaf = x.detach().requires_grad_()
    return [
        {
            "kind": "norm",
            "shape": list(shape),
            "dtype": str(dtype).removeprefix("torch."),
            "layout": layout,
            "contender": name,
            "ms": [round(1e3 * q, 5) for q in quantiles(times[name])],
            "to_bn_relu": [round(q, 4) for q in ratios(times[name], times["bn + relu"])],
            "rounds": len(times[name]),
            "saved_bytes": saved_bytes(partial(pair, leaf), [*pair.parameters(), *pair.buffers()]),
        }
        for name, pair in pairs.items()
    ]
