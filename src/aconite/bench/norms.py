"""The price of BatchNorm and the activation behind it, fused, in the time of stock BatchNorm + ReLU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aconite.bench.activations import DTYPES
from aconite.bench.layouts import LAYOUTS, check_layout
from aconite.bench.memory import saved_bytes
from aconite.bench.peers import PublishedAconC, PublishedMetaAconC, compile_peer
from aconite.bench.timing import quantiles, ratios, take_turns
from aconite.errors import SettingsError
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


class _Pair(nn.Module):
    def __init__(self, channels: int, activation: nn.Module | None, fused: bool) -> None:
        super().__init__()
        self.norm, self.activation, self.fused = nn.BatchNorm2d(channels), activation, fused

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return norm_activation(x, self.norm, self.activation)
        y: Tensor = self.norm(x)
        return y if self.activation is None else self.activation(y)


def _pairs(channels: int, dtype: torch.dtype) -> dict[str, _Pair]:
    # The published formulas compute in their parameters' dtype.
    published = PublishedAconC(channels, 4).to(dtype), PublishedMetaAconC(channels).to(dtype)
    return {
        "bn + relu": _Pair(channels, nn.ReLU(inplace=True), False),
        "bn + silu": _Pair(channels, nn.SiLU(), False),
        "bn + acon-c": _Pair(channels, AconC(channels), False),
        "bn + meta-acon": _Pair(channels, MetaAconC(channels), False),
        "bn + acon-c published": _Pair(channels, published[0], False),
        "bn + meta-acon published": _Pair(channels, published[1], False),
        "fused bn": _Pair(channels, None, True),
        "fused bn + relu": _Pair(channels, nn.ReLU(), True),
        "fused bn + acon-c": _Pair(channels, AconC(channels), True),
        "fused bn + meta-acon": _Pair(channels, MetaAconC(channels), True),
    }


def _training(run: Callable[[Tensor], Tensor], pair: _Pair, x: Tensor, grad: Tensor) -> Callable[[], object]:
    leaf = x.detach().requires_grad_()
    held = [leaf, *pair.parameters()]

    def call() -> object:
        for tensor in held:
            tensor.grad = None
        run(leaf).backward(grad)  # type: ignore[no-untyped-call]
        return leaf.grad

    return call


def measure_norms(
    shape: Sequence[int],
    layout: str = "contiguous",
    *,
    dtype: str = "float32",
    seconds: float = 3.0,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """One row for each pair, forward + backward in training: milliseconds, and the ratio to BatchNorm + ReLU(inplace)
    of the same round and layout, as p20, p50, p80.

    Args:
        shape: (N, C, H, W).
        layout: ``"contiguous"`` or ``"channels_last"``.
        dtype: of the input; parameters stay float32, but for those of the published formulas.
        seconds: about how long.
        compiled: time torch.compile of the pairs with ReLU and the published formulas, too (needs a C++ compiler;
            what this process has compiled before is dropped).
    """
    check_layout(layout)
    if dtype not in DTYPES:
        raise SettingsError(f"dtype={dtype!r}: expected one of {', '.join(DTYPES)}")
    torch.manual_seed(0)
    x = torch.randn(tuple(shape)).to(DTYPES[dtype]).contiguous(memory_format=LAYOUTS[layout])
    grad = torch.randn_like(x)
    pairs = _pairs(shape[1], x.dtype)
    calls = {name: _training(pair, pair, x, grad) for name, pair in pairs.items()}
    if compiled:
        for name in ("bn + relu", "bn + acon-c published", "bn + meta-acon published"):
            calls[f"{name}, compiled"] = _training(compile_peer(pairs[name]), pairs[name], x, grad)
    times = take_turns(calls, seconds=seconds)
    leaf = x.detach().requires_grad_()
    kept = {
        name: saved_bytes(partial(pair, leaf), [*pair.parameters(), *pair.buffers()]) for name, pair in pairs.items()
    }
    return [
        {
            "kind": "norm",
            "shape": list(shape),
            "dtype": dtype,
            "layout": layout,
            "passes": "training",
            "contender": name,
            "ms": [round(1e3 * q, 5) for q in quantiles(times[name])],
            "to_bn_relu": [round(q, 4) for q in ratios(times[name], times["bn + relu"])],
            "rounds": len(times[name]),
            "saved_bytes": kept.get(name),
        }
        for name in times
    ]
