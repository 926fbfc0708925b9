"""What a network's forward pass takes for one image: parameters, multiply-adds, and the work between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from aconite.errors import SettingsError
from aconite.lab.tables.printed import PublishedRow
from aconite.models import create

__all__ = ["Counts", "count", "count_elementwise"]


@dataclass(frozen=True)
class Counts:
    """Of one image's forward pass. ``elementwise`` is what `multiply_adds` leaves out: see `count_elementwise`."""

    parameters: int
    multiply_adds: int
    elementwise: int


def count(row: PublishedRow, image_size: int) -> Counts:
    """The counts of a row's network at square images of ``image_size`` pixels.

    Only shapes are computed, on torch's meta device, and weights are not drawn, so that a large network takes a second;
    torch's random stream stays where it is.

    >>> from aconite.lab.tables import published_table
    >>> count(published_table("activations").rows[0], 224)
    Counts(parameters=1370768, multiply_adds=40476448, elementwise=3521728)
    """
    with torch.random.fork_rng(devices=[]), _Undrawn():  # type: ignore[no-untyped-call]
        network = create(row.network, **row.options).to("meta").eval()
    images = torch.zeros(1, 3, image_size, image_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Elementwise() as rest:
        network(images)  # the last mode sees an operation first, before torch's own counter takes it apart
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Counts(parameters, flops.get_total_flops() // 2, rest.total)


def count_elementwise(run: Callable[[], object]) -> int:
    """The arithmetic of ``run()`` outside convolutions and matrix products.

    Counted is what the equation of an operation needs for one element, times the elements: each sum, product,
    quotient, comparison and value of a function (σ, exp, log, tanh) is one. What is the same for a whole channel,
    such as p1 − p2 or the scale and shift of a BatchNorm, is prepared once and costs nothing; so does moving data.
    ReLU is 1, Swish x·σ(βx) 3, ACON-C 6, BatchNorm in evaluation 2, a k×k max-pool k² − 1, a mean 1 per element of
    its input.

    Raises:
        SettingsError: an operation is not in this list.

    >>> count_elementwise(lambda: torch.nn.functional.silu(torch.zeros(10)))
    20
    """
    counter = _Elementwise()
    with counter:
        run()
    return counter.total


def _one(*_: Any) -> int:
    return 1


def _acon_c(x: Tensor, p1: Tensor | None, p2: Tensor | None, beta: Tensor | None, *_: Any) -> int:
    """(p1 − p2)·x, β·, σ, ·, p2·x, +; None stands for p1 = 1, p2 = 0, β = 1."""
    return 2 + (beta is not None) + (not p1 is p2 is None) + 2 * (p2 is not None)


def _acon(a: Tensor, b: Tensor, beta: Tensor | None, *_: Any) -> int:
    """a − b, β·, σ, ·, + b."""
    return 4 + (beta is not None)


_PER_RESULT: Mapping[str, Callable[..., int]] = {
    "aten::relu": _one,
    "aten::sigmoid": _one,
    "aten::add": _one,
    "aten::mul": _one,
    "aten::maximum": _one,
    "aten::hardtanh": lambda *_: 2,
    "aten::silu": lambda *_: 2,
    "aten::native_batch_norm": lambda *_: 2,
    "aten::elu": lambda *_: 3,  # compare, exp, − 1
    "aten::softplus": lambda *_: 3,  # exp, 1 +, log
    "aten::mish": lambda *_: 5,  # softplus, tanh, x ·
    "aten::max_pool2d_with_indices": lambda x, kernel, *_: math.prod(kernel) - 1,
    "aconite::acon_c": _acon_c,
    "aconite::acon": _acon,
}
_PER_INPUT = {"aten::mean"}
_NONE = {"aten::convolution", "aten::addmm", "aten::mm", "aten::bmm"}  # counted as multiply-adds
_NONE |= {"aten::cat", "aten::constant_pad_nd", "aten::clone", "aten::_to_copy", "aten::empty", "aten::zeros"}
_NONE |= {"aten::promote_types"}


class _Elementwise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up while it is entered; the operations themselves run as ever."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removesuffix("_")
        if name in _PER_RESULT:
            values = result[0] if isinstance(result, tuple) else result
            self.total += _PER_RESULT[name](*args) * values.numel()
        elif name in _PER_INPUT:
            self.total += args[0].numel()
        elif name not in _NONE and not func.is_view:
            raise SettingsError(f"{name} has no count of operations: enter it in {__name__}")
        return result


class _Undrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves weights as they lie in memory instead of drawing them, which is the slow part of making a network."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default):
            return args[0]
        return func(*args, **(kwargs or {}))
