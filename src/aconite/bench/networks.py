"""The price of an activation in a whole network: a training step, inference, and what is kept for backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from aconite.bench.layouts import LAYOUTS, check_layout
from aconite.bench.memory import saved_bytes
from aconite.bench.peers import PublishedAconC, PublishedMetaAconC, compile_peer
from aconite.bench.timing import quantiles, ratios, take_turns
from aconite.errors import SettingsError
from aconite.models import create, stem_for
from aconite.surgery import fuse

__all__ = ["NETWORK_PASSES", "measure_networks"]

NETWORK_PASSES = ("step", "inference")
Factory = Callable[[int], nn.Module]


def _relu(channels: int) -> nn.Module:
    return nn.ReLU(inplace=True)


def _built(name: str, size: int, activation: str | Factory) -> nn.Module:
    torch.manual_seed(0)
    return create(name, activation=activation, stem=stem_for(size))


def _contenders(name: str, x: Tensor, compiled: bool) -> dict[str, nn.Module]:
    size = x.shape[-1]
    built = partial(_built, name, size)
    found = {
        "relu": built(_relu),
        "silu": built("silu"),
        "acon-c": built("acon-c"),
        "meta-acon": built("meta-acon"),
        "acon-c published": built(lambda channels: PublishedAconC(channels, 4)),
        "meta-acon published": built(PublishedMetaAconC),
    }
    for activation in ("relu", "acon-c", "meta-acon"):
        found[f"{activation}, fused"], _ = fuse(built(activation), x[:2])
    if compiled:
        for activation in ("relu", "acon-c published", "meta-acon published"):
            found[f"{activation}, compiled"] = compile_peer(found[activation])
    return found


def _step(network: nn.Module, x: Tensor, labels: Tensor) -> Callable[[], object]:
    network.train()
    # torch's fused SGD: its plain loop takes 10 µs a parameter, and ACON-C has three more a layer, Meta-ACON ten.
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step() -> object:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


def _inference(network: nn.Module, x: Tensor) -> Callable[[], object]:
    network.eval()

    def infer() -> object:
        with torch.inference_mode():
            return network(x)

    return infer


def _kept(networks: Mapping[str, nn.Module], x: Tensor) -> dict[str, int]:
    return {
        name: saved_bytes(partial(network.train(), x), chain(network.parameters(), network.buffers()))
        for name, network in networks.items()
        if not name.endswith(", compiled")  # the compiler decides anew what it keeps when hooks watch it
    }


def measure_networks(
    name: str = "shufflenetv2_x0_5",
    shape: Sequence[int] = (16, 3, 224, 224),
    *,
    layout: str = "contiguous",
    passes: str = "step",
    seconds: float = 60.0,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """One row for each activation in the network: milliseconds, and the ratio to the ReLU network of the same round
    and layout, as p20, p50, p80; and the bytes kept for backward.

    A step is forward, cross-entropy, backward and an update by fused SGD with momentum; inference is in evaluation mode
    under ``torch.inference_mode``. "fused" networks went through `aconite.surgery.fuse`.

    Args:
        name: as `aconite.models.create` knows it.
        shape: of the images, (N, 3, H, H).
        layout: ``"contiguous"`` or ``"channels_last"``, of images and weights.
        passes: ``"step"`` or ``"inference"``.
        seconds: about how long.
        compiled: time torch.compile of the ReLU network and of the published formulas, too (needs a C++ compiler;
            what this process has compiled before is dropped).
    """
    check_layout(layout)
    if passes not in NETWORK_PASSES:
        raise SettingsError(f"passes={passes!r}: expected one of {', '.join(NETWORK_PASSES)}")
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise SettingsError(f"shape={tuple(shape)}: expected images of equal sides and three colours, (N, 3, H, H)")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tuple(shape), generator=generator).contiguous(memory_format=LAYOUTS[layout])
    labels = torch.randint(1000, (shape[0],), generator=generator)
    networks = _contenders(name, x, compiled)
    for network in networks.values():
        network.to(memory_format=LAYOUTS[layout])
    kept = _kept(networks, x)
    calls = {
        key: _step(network, x, labels) if passes == "step" else _inference(network, x)
        for key, network in networks.items()
    }
    times = take_turns(calls, seconds=seconds)
    return [
        {
            "kind": "network",
            "network": name,
            "shape": list(shape),
            "dtype": "float32",
            "layout": layout,
            "passes": passes,
            "contender": key,
            "ms": [round(1e3 * q, 3) for q in quantiles(measured)],
            "to_relu": [round(q, 4) for q in ratios(measured, times["relu"])],
            "rounds": len(measured),
            "saved_bytes": kept.get(key),
        }
        for key, measured in times.items()
    ]
