"""What every layer with a channel count shares: 1-D parameters, lazy channel counts, loading of published shapes."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from aconite.errors import SettingsError, ShapeError, StateDictError
from aconite.kernels import channel_index

__all__ = ["SLOPES", "ChannelModule", "given_channels", "published_state_dict"]

SLOPES = ("p1", "p2", "beta")
"""The names of the activation parameters, in every layer and state dict."""


def given_channels(channels: int | None, width: int | None = None, init: Any = None) -> int | None:
    """The channel count from our name, from the reference code's, or from initial values per channel."""
    if channels is not None and width is not None:
        raise SettingsError(f"channels={channels} and width={width} are two names of one argument; pass one of them")
    counts = (channels, width, getattr(init, "channels", None))
    return next((count for count in counts if count is not None), None)


class LazyParameter(UninitializedParameter):
    """torch's uninitialised Parameter, which can be frozen as well and keeps its device and dtype when pickled."""

    _allowed_methods: ClassVar[list[Any]] = [
        *UninitializedParameter._allowed_methods,  # type: ignore[attr-defined]
        Tensor.requires_grad_,
    ]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, self.device, self.dtype)


torch.serialization.add_safe_globals([LazyParameter])  # so that torch.load reads a lazy layer's state dict


def _pour(built: dict[str, Any], lazy: dict[str, Any]) -> None:
    """Put the lazy Parameter objects in the place of the built ones, with their values."""
    for name, parameter in lazy.items():
        if parameter is not None:
            parameter.materialize(built[name].shape)
            parameter.copy_(built[name])
        built[name] = parameter


class ChannelModule(nn.Module):
    """A layer whose parameters follow from its channel count, which may come with the first input.

    A subclass stores its options, then calls ``_start(channels, device, dtype)``; ``_build(channels, factory)`` makes
    parameters and children for a known count. Without a count the layer is built for one channel and its parameters
    become torch's uninitialised ones; the first forward (or a state dict) builds the real values and pours them into
    the same Parameter objects, so that an optimiser made before stays valid.
    """

    channels: int | None
    channel_dim: int
    channel_entry: ClassVar[tuple[str, int]] = ("beta", 0)
    """The state-dict entry, and its dimension, that tells a lazy layer its channel count."""

    def _start(self, channels: int | None, device: Any, dtype: Any) -> None:
        if isinstance(channels, bool):
            channels = None  # generic code writes act_layer(True), since nn.ReLU's first argument is inplace
        if channels is not None and (not isinstance(channels, int) or channels < 1):
            raise SettingsError(
                f"{type(self).__name__}(channels={channels!r}): expected a positive integer, or None to learn it from "
                "the first input"
            )
        self.channels = channels
        self._build(channels or 1, {"device": device, "dtype": dtype})
        if channels is None:
            self._forget()

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say what it consists of")

    def _forget(self) -> None:
        lazy: Any = LazyParameter
        with torch.inference_mode(False):  # a tensor made in inference mode could not be filled outside of it
            for module in self.modules():
                for name, p in module._parameters.items():
                    if p is not None:
                        module._parameters[name] = lazy(p.requires_grad, p.device, p.dtype)

    def _materialise(self, channels: int) -> None:
        """Give a lazy layer its channel count; Parameter objects, children, device, dtype and requires_grad stay."""
        parameters, children = dict(self._parameters), dict(self._modules)
        self.channels = channels
        # A first forward in inference mode must not leave parameters behind that cannot be trained.
        with torch.inference_mode(False), torch.no_grad():
            # float32 on the CPU first: the drawn values do not depend on where the layer was moved meanwhile.
            self._build(channels, {"device": "cpu", "dtype": torch.float32})
            _pour(self._parameters, parameters)
            for name, child in children.items():
                built, self._modules[name] = self._modules[name], child
                if child is None or built is None:
                    continue
                sizes = {k: v for k, v in built.__dict__.items() if not k.startswith("_") and k != "training"}
                child.__dict__.update(sizes)
                _pour(built._parameters, child._parameters)
                child._parameters = built._parameters
                for key, buffer in child._buffers.items():
                    value = built._buffers[key]
                    child._buffers[key] = (
                        value if buffer is None or value is None else value.to(buffer.device, buffer.dtype)
                    )

    def _ready(self, x: Tensor) -> int:
        """Check x, materialise at the first input, and return the channel dimension counted from the front."""
        c = channel_index(x, self.channel_dim)
        if self.channels is None:
            # The compiler cannot look at uninitialised tensors: a break in the graph, once.
            if torch.compiler.is_compiling():
                torch.compiler.disable(self._materialise)(x.shape[c])  # type: ignore[no-untyped-call]
            else:
                self._materialise(x.shape[c])
        elif x.shape[c] != self.channels:
            raise ShapeError(
                f"{type(self).__name__} has {self.channels} channels, but the input of shape {tuple(x.shape)} has "
                f"{x.shape[c]} at channel_dim={self.channel_dim}; write {type(self).__name__}({x.shape[c]}) or pass "
                "the dimension that holds the channels as channel_dim"
            )
        return c

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """torch's; a lazy layer stores its uninitialised tensors as they are, since they cannot be detached."""
        lazy = self.channels is None
        return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars or lazy)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in SLOPES:
            value = state_dict.get(prefix + name)
            if (
                isinstance(value, Tensor)
                and not is_lazy(value)
                and value.ndim > 1
                and value.numel() == max(value.shape)
            ):
                state_dict[prefix + name] = value.reshape(-1)
        if self.channels is None:
            name, dim = self.channel_entry
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor) and not is_lazy(value):
                self._materialise(value.shape[dim])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def materialise(self, channels: int) -> Self:
        """Set the channel count of a lazy layer without running it; does nothing where it is that already.

        Raises:
            SettingsError: the layer has another channel count.

        >>> import aconite.nn
        >>> aconite.nn.AconC().materialise(8).p1.shape
        torch.Size([8])
        """
        if self.channels is None:
            self._materialise(channels)
        elif self.channels != channels:
            raise SettingsError(
                f"{type(self).__name__} already has {self.channels} channels; build a new one for {channels}"
            )
        return self


def published_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The module's state dict in the shapes of the public reference code: p1, p2 and beta as (1, C, 1, 1).

    Works on a single layer and on a whole network; every other entry is unchanged.

    >>> import aconite.nn
    >>> published_state_dict(aconite.nn.AconC(8))["beta"].shape
    torch.Size([1, 8, 1, 1])
    """
    owners = {name for name, m in module.named_modules(remove_duplicate=False) if isinstance(m, ChannelModule)}
    state: dict[str, Tensor] = module.state_dict()
    for key, value in state.items():
        path, _, name = key.rpartition(".")
        if name in SLOPES and path in owners and value.ndim == 1:
            if is_lazy(value):
                raise StateDictError(f"{key} has no shape yet; run the module once or call materialise(channels)")
            state[key] = value.reshape(1, -1, 1, 1)
    return state
