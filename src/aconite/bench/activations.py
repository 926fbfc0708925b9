"""The price of an activation: forward, and forward with backward, in the time of its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aconite.bench.memory import saved_bytes
from aconite.bench.peers import PublishedAconC, PublishedMetaAconC, SqueezeExciteThenReLU, compile_peer
from aconite.bench.timing import quantiles, ratios, take_turns
from aconite.errors import SettingsError
from aconite.nn import AconA, AconB, AconC, MetaAconC

__all__ = ["SHAPES", "Case", "cases", "measure"]

SHAPES: tuple[tuple[int, ...], ...] = (
    (32, 64, 56, 56),
    (32, 256, 14, 14),
    (16, 24, 56, 56),
    (16, 96, 14, 14),
    (8, 1024, 7, 7),
    (64, 512),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
LAYOUTS = ("contiguous", "channels_last")
PASSES = ("forward", "training")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table: a shape, how it lies in memory, its dtype, and which pass is timed."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "contiguous"
    passes: str = "training"

    def __post_init__(self) -> None:
        for name, allowed in (("dtype", DTYPES), ("layout", LAYOUTS), ("passes", PASSES)):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        if self.layout == "channels_last" and len(self.shape) != 4:
            raise SettingsError(f"channels_last is a layout of four dimensions, not of shape {self.shape}")


def cases(
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    layouts: Sequence[str] = LAYOUTS,
    passes: Sequence[str] = PASSES,
) -> Iterator[Case]:
    """Every combination that exists: channels_last only for four dimensions."""
    for dtype in dtypes:
        for layout in layouts:
            for shape in shapes:
                if layout == "contiguous" or len(shape) == 4:
                    for which in passes:
                        yield Case(shape=shape, dtype=dtype, layout=layout, passes=which)


def _contenders(case: Case, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    channels, ndim = case.shape[1], len(case.shape)
    published = PublishedAconC(channels, ndim)
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": torch.relu,
        "silu": nn.functional.silu,
        "acon-a": AconA(channels),
        "acon-b": AconB(channels),
        "acon-c": AconC(channels),
        "acon-c published": published,
    }
    if ndim == 4:
        found |= {
            "meta-acon": MetaAconC(channels),
            "meta-acon published": PublishedMetaAconC(channels),
            "se + relu": SqueezeExciteThenReLU(channels),
        }
    dtype = DTYPES[case.dtype]
    for module in found.values():
        if isinstance(module, PublishedAconC | SqueezeExciteThenReLU):
            module.to(dtype)  # these compute in their parameters' dtype
    if compiled:
        found["acon-c published, compiled"] = compile_peer(published)
    return found


def _call(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, passes: str) -> Callable[[], object]:
    if passes == "forward":

        def forward() -> object:
            with torch.no_grad():
                return run(x)

        return forward
    leaf = x.detach().requires_grad_()
    held = [leaf, *_parameters(run)]

    def training() -> object:
        for tensor in held:
            tensor.grad = None
        run(leaf).backward(grad)  # type: ignore[no-untyped-call]
        return leaf.grad

    return training


def _parameters(run: object) -> list[nn.Parameter]:
    return list(run.parameters()) if isinstance(run, nn.Module) else []


def measure(case: Case, *, seconds: float = 3.0, compiled: bool = False) -> list[dict[str, Any]]:
    """One row for each contender: milliseconds, and the ratio to SiLU's time in the same round, as p20, p50, p80.

    "copy" is the physical limit: the same bytes moved and nothing computed. Forward reads x and writes y; backward
    reads x and the incoming gradient and writes one.

    Args:
        case: what to time.
        seconds: about how long.
        compiled: time the published formula under torch.compile, too (needs a C++ compiler;
            what this process has compiled before is dropped).
    """
    torch.manual_seed(0)
    x = torch.randn(case.shape).to(DTYPES[case.dtype])
    if case.layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    grad = torch.randn_like(x)
    contenders = _contenders(case, compiled)
    calls = {name: _call(run, x, grad, case.passes) for name, run in contenders.items()}
    calls["copy"] = x.clone if case.passes == "forward" else lambda: (x.clone(), torch.add(x, grad))
    times = take_turns(calls, seconds=seconds)
    leaf = x.detach().requires_grad_()
    saved = {name: saved_bytes(partial(run, leaf), _parameters(run)) for name, run in contenders.items()}
    return [
        {
            "kind": "activation",
            "shape": list(case.shape),
            "dtype": case.dtype,
            "layout": case.layout,
            "passes": case.passes,
            "contender": name,
            "ms": [round(1e3 * q, 5) for q in quantiles(measured)],
            "to_silu": [round(q, 4) for q in ratios(measured, times["silu"])],
            "rounds": len(measured),
            "saved_bytes": saved.get(name),
        }
        for name, measured in times.items()
    ]
