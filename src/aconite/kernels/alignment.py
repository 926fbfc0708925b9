"""Which dimension holds the channels, and how a parameter broadcasts against an input. Nothing is guessed."""

from __future__ import annotations

from torch import Tensor

from aconite.errors import ShapeError

__all__ = ["Scalar", "align", "channel_index"]

Scalar = float | int | Tensor


def channel_index(x: Tensor, channel_dim: int) -> int:
    """The channel dimension counted from the front; an error says what to write where x has no such dimension.

    >>> import torch
    >>> channel_index(torch.zeros(2, 3, 4), -1)
    2
    """
    if -x.ndim <= channel_dim < x.ndim:
        return channel_dim % x.ndim
    hint = "; for an unbatched vector write channel_dim=-1" if x.ndim == 1 else ""
    raise ShapeError(f"channel_dim={channel_dim} does not exist in an input of shape {tuple(x.shape)}{hint}")


def align(parameter: Scalar, x: Tensor, channel_dim: int, name: str = "parameter") -> Scalar:
    """A view of the parameter that broadcasts against x as the table of `aconite.functional` says.

    Raises:
        ShapeError: the size fits neither the channels nor the input.

    >>> import torch
    >>> align(torch.ones(3), torch.zeros(2, 3, 4, 5), channel_dim=1).shape
    torch.Size([3, 1, 1])
    >>> align(torch.ones(2, 5), torch.zeros(2, 3, 5), channel_dim=-1).shape
    torch.Size([2, 1, 5])
    """
    if not isinstance(parameter, Tensor) or parameter.ndim == 0:
        return parameter
    c = channel_index(x, channel_dim)
    if parameter.ndim == 1:
        if parameter.shape[0] not in (1, x.shape[c]):
            raise ShapeError(
                f"{name} has {parameter.shape[0]} values, but the input of shape {tuple(x.shape)} has {x.shape[c]} "
                f"channels at channel_dim={channel_dim}; pass the dimension that holds the channels as channel_dim"
            )
        return parameter.view(-1, *(1,) * (x.ndim - c - 1))
    if parameter.ndim == x.ndim:
        shape = tuple(parameter.shape)
    elif parameter.ndim == 2 and c > 0:
        shape = tuple(parameter.shape[0] if d == 0 else parameter.shape[1] if d == c else 1 for d in range(x.ndim))
    else:
        raise ShapeError(
            f"{name} of shape {tuple(parameter.shape)} does not fit an input of shape {tuple(x.shape)} with "
            f"channel_dim={channel_dim}; pass a number, ({x.shape[c]},), (N, {x.shape[c]}) or {x.ndim} dimensions"
        )
    if any(p not in (1, s) for p, s in zip(shape, x.shape, strict=True)):
        raise ShapeError(
            f"{name} of shape {tuple(parameter.shape)} does not broadcast against an input of shape {tuple(x.shape)} "
            f"with channel_dim={channel_dim}"
        )
    return parameter.view(shape)
