"""Watches a model's activation layers while it runs, and keeps sums of what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from aconite import functional
from aconite.errors import SettingsError, ShapeError
from aconite.inspection.parameters import (
    BATCH_NORM_ACON,
    BATCH_NORM_META,
    SWITCHED,
    is_activation,
    is_pointwise,
    values_of,
)
from aconite.inspection.statistics import FLAT, LayerStatistics, RunningSums, others
from aconite.nn import MetaAconC

__all__ = ["ActivationStatistics"]


class ActivationStatistics:
    """Statistics of every activation layer of a model, over all data that run through it while this is attached.

    Nothing about the model changes: outputs, gradients, buffers and random numbers are those of an unwatched run (a
    fused kernel gives way to the two layers it joins, with the same result to rounding). The memory held does not grow
    with the data. Use it as a context manager, or with `attach` and `detach`.

    Args:
        model: the module that is called with the data. Its activations are found by their class (torch's and
            Aconite's); what is called as a function, such as ``F.relu``, is not seen.
        channel_dim: where the channels are, for layers that do not know it: 1, or −1 for token models.
        images: of how many images, the first that come, a generated β is kept.
        slopes: whether to measure saturation, which evaluates each layer's derivative as well.

    Raises:
        SettingsError: the model has no activation module, or is fused.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.copy_(torch.tensor([0.0, -9.0]))
    >>> with ActivationStatistics(model) as statistics:
    ...     for batch in torch.linspace(-1, 1, 100).reshape(10, 10, 1):
    ...         _ = model(batch)
    >>> statistics.layers()["1"].dead
    tensor([False,  True])
    """

    def __init__(self, model: nn.Module, *, channel_dim: int = 1, images: int = 7, slopes: bool = True) -> None:
        self.model, self.channel_dim, self.images, self.slopes = model, channel_dim, images, slopes
        self._handles: list[RemovableHandle] = []
        self._sums: dict[str, RunningSums] = {}
        self._modules: dict[str, nn.Module] = {}
        self._calls: dict[nn.Module, int] = {}
        self._inputs: dict[nn.Module, Tensor] = {}
        self._watched = dict(_activations(model))
        if not self._watched:
            raise SettingsError(
                f"{type(model).__name__} has no activation module: functions such as F.relu are not seen; "
                "use modules, torch.nn.ReLU() or aconite.AconC() for instance"
            )
        if any(type(module).__module__ == "aconite.surgery.fused" for module in model.modules()):
            raise SettingsError("the model is fused: inspect aconite.unfuse(model)[0]")

    def attach(self) -> Self:
        """Begin to watch; what was seen before stays in the sums."""
        if not self._handles:
            self._calls.clear()
            self._handles = [self.model.register_forward_pre_hook(self._begin)]
            for module, name in self._watched.items():
                self._handles.append(module.register_forward_pre_hook(self._before))
                self._handles.append(module.register_forward_hook(self._after(name)))
        return self

    def detach(self) -> None:
        """Stop watching; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._inputs.clear()

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(self, *_: object) -> None:
        self.detach()

    def reset(self) -> None:
        """Forget what was seen."""
        self._sums.clear()

    def layers(self) -> dict[str, LayerStatistics]:
        """What was seen, by the layers' names, in the order in which they ran.

        A module that runs several times in one forward pass has an entry for each time: ``relu``, ``relu (2nd call)``.
        Layers that no data reached are missing.
        """
        return {
            name: sums.finish(values_of(self._modules[name]) if isinstance(self._modules[name], SWITCHED) else None)
            for name, sums in self._sums.items()
        }

    def _begin(self, *_: Any) -> None:
        self._calls.clear()

    def _before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # in place, the input is gone when the output is there
        self._inputs[module] = inputs[0].detach().clone() if getattr(module, "inplace", False) else inputs[0].detach()

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            x = self._inputs.pop(module)
            self._calls[module] = call = self._calls.get(module, 0) + 1
            key = name if call == 1 else f"{name} ({_ordinal(call)} call)"
            if key not in self._sums:
                self._sums[key] = RunningSums(type(module).__name__, self.images)
                self._modules[key] = module
            sums = self._sums[key]
            with torch.no_grad():
                self._measure(module, x, output.detach(), sums)
            if output.requires_grad:
                output.register_hook(lambda grad: self._gradient(module, grad, sums))  # type: ignore[no-untyped-call]

        return hook

    def _measure(self, module: nn.Module, x: Tensor, y: Tensor, sums: RunningSums) -> None:
        if y.numel() == 0:
            return
        if isinstance(module, BATCH_NORM_ACON + BATCH_NORM_META):
            x = _normalised(module, x)
        c = self._channels(module, x)
        sums.add(x, y, c)
        function: Callable[[Tensor], Tensor] | None = module.forward if is_pointwise(module) else None
        if isinstance(module, SWITCHED):
            function = _measure_gate(module, x, c, sums)
        if self.slopes and function is not None:
            flat = _slope(function, x).abs() < FLAT
            sums.add_sum("flat", flat.sum(others(x, c)))

    def _gradient(self, module: nn.Module, grad: Tensor, sums: RunningSums) -> None:
        c = self._channels(module, grad)
        sums.add_sum("gradient", _square_sum(grad, c))
        sums.gradients += grad.numel() // grad.shape[c]

    def _channels(self, module: nn.Module, x: Tensor) -> int:
        dim = getattr(module, "channel_dim", self.channel_dim)
        if x.ndim < 2 or not -x.ndim <= dim < x.ndim:
            raise ShapeError(
                f"an activation's input of shape {tuple(x.shape)} has no channels at dimension {dim} beside its "
                "samples: run a batch, and pass channel_dim=-1 for token models"
            )
        return int(dim % x.ndim)


def _activations(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The outermost activation modules, each once, with a name."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside and is_activation(module):
            inside.update(module.modules())
            yield module, name or type(module).__name__


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, 'th') }"


def _measure_gate(module: nn.Module, x: Tensor, c: int, sums: RunningSums) -> Callable[[Tensor], Tensor]:
    """Adds what z = β(p1 − p2)x and a generated β are; returns the layer's function with β held."""
    own = values_of(module)
    p1, p2 = (_along(value.to(x.device), x, c) for value in (own.p1, own.p2))
    if own.beta is not None:
        beta = _along(own.beta.to(x.device), x, c)
    else:
        generated = _generated(module, x)
        sums.add_betas(generated.flatten(1))
        beta = _placed(generated, x, c)
        each = x.numel() // x.shape[c] * beta.shape[c] // beta.numel()  # how many values share a β
        sums.add_sum("beta", (each * beta.double().sum(others(x, c))).expand(x.shape[c]))
    shared = [d for d in others(x, c) if beta.shape[d] == 1]
    size = torch.linalg.vector_norm(x, dim=shared, keepdim=True, dtype=torch.float64) if shared else x.double()
    sums.add_sum("z square", _square_sum(beta.double() * (p1 - p2) * size, c))
    gate: str = module.gate  # type: ignore[assignment]  # nn.Module's attributes have no types
    return lambda at: functional.acon_c(
        at, *(value.to(torch.promote_types(x.dtype, torch.float32)) for value in (p1, p2, beta)),
        channel_dim=c, gate=gate,
    )  # fmt: skip


def _square_sum(values: Tensor, c: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values, dim=others(values, c), dtype=torch.float64)
    return norm.square()


def _along(values: Tensor, x: Tensor, c: int) -> Tensor:
    return values.reshape([-1 if d == c else 1 for d in range(x.ndim)])


def _placed(beta: Tensor, x: Tensor, c: int) -> Tensor:
    """A generated β, (N, C), (N, 1) or x's shape, so that it broadcasts with x."""
    if beta.shape == x.shape:
        return beta
    if c == 0:  # unbatched
        return _along(beta.flatten(), x, c)
    return beta.reshape([x.shape[0] if d == 0 else (beta.shape[1] if d == c else 1) for d in range(x.ndim)])


def _slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The derivative of a pointwise function at each value of x; hooks do not run, inference mode is left for it."""
    with torch.inference_mode(False), torch.enable_grad():
        at = x.clone().requires_grad_()
        [slope] = torch.autograd.grad(function(at.clone()).sum(), at, allow_unused=True)  # a clone, to work in place on
    return torch.zeros_like(x) if slope is None else slope


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    """What the norm in a layer of norm and activation gives, with nothing updated."""
    norm = cast(nn.BatchNorm2d, module)
    batch = norm.training or norm.running_mean is None
    buffers = (None, None) if batch else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, *buffers, norm.weight, norm.bias, batch, 0.0, norm.eps)


def _generated(module: nn.Module, x: Tensor) -> Tensor:
    with _buffers_apart(module):
        beta: Tensor = module.generate_beta(x) if isinstance(module, MetaAconC) else cast(Any, module)._generate(x)
    return beta


@contextmanager
def _buffers_apart(module: nn.Module) -> Iterator[None]:
    """In training the generator's norms count every call; here they count in copies."""
    kept = [(part, dict(part._buffers)) for part in module.modules()]
    for part, buffers in kept:
        part._buffers.update({name: None if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for part, buffers in kept:
            part._buffers.update(buffers)
