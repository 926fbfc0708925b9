"""What every layer with a channel count shares: 1-D parameters, lazy channel counts, and loading of the published shapes."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from aconite.errors import SettingsError, ShapeError, StateDictError
from aconite.functional import channel_index

__all__ = ["SLOPES", "ChannelModule", "given_channels", "published_state_dict"]

SLOPES = ("p1", "p2", "beta")
"""The names of the activation parameters, in every layer and state dict."""


def given_channels(channels: int | None, width: int | None) -> int | None:
    """The channel count from our name or from the reference code's."""
    if channels is not None and width is not None:
        raise SettingsError(f"channels={channels} and width={width} are two names of one argument; pass one of them")
    return width if channels is None else channels


class ChannelModule(nn.Module):
    """A layer whose parameters follow from its channel count, which may come with the first input.

    A subclass stores its options, then calls ``_start(channels, device, dtype)``; ``_build(channels, factory)`` makes parameters
    and children for a known count. Without a count the layer is built for one channel and its tensors become torch's
    uninitialised ones; the first forward (or a state dict) builds the real values and pours them into the same Parameter objects,
    so that an optimiser made before stays valid.
    """

    channels: int | None
    channel_dim: int
    channel_entry: ClassVar[tuple[str, int]] = ("beta", 0)
    """The state-dict entry, and its dimension, that tells a lazy layer its channel count."""

    def _start(self, channels: int | None, device: Any, dtype: Any) -> None:
        if channels is not None and (not isinstance(channels, int) or isinstance(channels, bool) or channels < 1):
            raise SettingsError(
                f"{type(self).__name__}(channels={channels!r}): expected a positive integer, or None to learn it from the first input"
            )
        self.channels = channels
        self._build(channels or 1, {"device": device, "dtype": dtype})
        if channels is None:
            self._forget()

    def _build(self, channels: int, factory: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say what it consists of")

    def _owned(self) -> list[tuple[nn.Module, str, Tensor, bool]]:
        """(owner, name, tensor, is_parameter) of everything whose shape follows from the channel count."""
        tensors = []
        for module in self.modules():
            tensors += [(module, n, p, True) for n, p in module._parameters.items() if p is not None]
            tensors += [(module, n, b, False) for n, b in module._buffers.items() if b is not None and b.ndim > 0]
        return tensors

    def _forget(self) -> None:
        for module, name, tensor, is_parameter in self._owned():
            kwargs = {"device": tensor.device, "dtype": tensor.dtype}
            if is_parameter:
                module._parameters[name] = UninitializedParameter(tensor.requires_grad, **kwargs)
            else:
                module._buffers[name] = UninitializedBuffer(**kwargs)

    def _materialise(self, channels: int) -> None:
        """Give a lazy layer its channel count; Parameter objects, child modules, device, dtype and requires_grad stay."""
        lazy, children = self._owned(), dict(self._modules)
        self.channels = channels
        # float32 on the CPU first: the drawn values do not depend on where the layer was moved meanwhile.
        self._build(channels, {"device": "cpu", "dtype": torch.float32})
        fresh = {(id(owner), name): tensor for owner, name, tensor, _ in self._owned()}
        for child_name, child in children.items():
            built = self._modules[child_name]
            if child is None or built is None:
                continue
            child.__dict__.update({k: v for k, v in built.__dict__.items() if not k.startswith("_") and k != "training"})
            fresh.update({(id(child), n): t for n, t in (*built._parameters.items(), *built._buffers.items()) if t is not None})
            self._modules[child_name] = child
        with torch.no_grad():
            for owner, name, tensor, is_parameter in lazy:
                value = fresh[id(owner), name]
                assert isinstance(tensor, UninitializedParameter | UninitializedBuffer)
                tensor.materialize(value.shape)
                tensor.copy_(value)
                (owner._parameters if is_parameter else owner._buffers)[name] = tensor

    def _ready(self, x: Tensor) -> int:
        """Check x at the door, materialise at the first input, and return the channel dimension counted from the front."""
        c = channel_index(x, self.channel_dim)
        if self.channels is None:
            self._materialise(x.shape[c])
        elif x.shape[c] != self.channels:
            raise ShapeError(
                f"{type(self).__name__} has {self.channels} channels, but the input of shape {tuple(x.shape)} has {x.shape[c]} at "
                f"channel_dim={self.channel_dim}; write {type(self).__name__}({x.shape[c]}) or pass the dimension that holds the "
                "channels as channel_dim"
            )
        return c

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """torch's; a lazy layer stores its uninitialised tensors as they are, since they cannot be detached."""
        lazy = self.channels is None
        return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars or lazy)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in SLOPES:
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor) and not is_lazy(value) and value.ndim > 1 and value.numel() == max(value.shape):
                state_dict[prefix + name] = value.reshape(-1)
        if self.channels is None:
            name, dim = self.channel_entry
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor) and not is_lazy(value):
                self._materialise(value.shape[dim])
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]

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
            raise SettingsError(f"{type(self).__name__} already has {self.channels} channels; build a new one for {channels}")
        return self


def published_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The module's state dict in the shapes of the public reference code: p1, p2 and beta as (1, C, 1, 1).

    Works on a single layer and on a whole network; every other entry is unchanged.

    >>> import aconite.nn
    >>> published_state_dict(aconite.nn.AconC(8))["beta"].shape
    torch.Size([1, 8, 1, 1])
    """
    owners = {name: m for name, m in module.named_modules() if isinstance(m, ChannelModule)}
    state: dict[str, Tensor] = module.state_dict()
    for key, value in state.items():
        path, _, name = key.rpartition(".")
        if name in SLOPES and path in owners and value.ndim == 1:
            if is_lazy(value):
                raise StateDictError(f"{key} has no shape yet; run the module once or call materialise(channels)")
            state[key] = value.reshape(1, -1, 1, 1)
    return state
