"""A call of ACON-C's kernel, bound to where its parameters lie: checked once, good as long as they stay there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import KernelUnavailableError
from ._library import functions, load
from ._plan import ARITHMETIC, check
from ._pointers import like, planned
from ._recipe import DX, GRAD, GRADIENTS, Argument, Recipe, X, Y, address, pieces

__all__ = ["AconCCall"]

_place = Tensor.data_ptr


class AconCCall:
    """ACON-C with one p1, p2 and beta per channel, on inputs that lie as ``x`` does."""

    copied = False  # as of `NormCall`: no tensor is ever converted

    def __init__(self, x: Tensor, slopes: Sequence[Tensor], channel_dim: int, gate: str) -> None:
        dense, self._plan = planned(x, slopes, channel_dim, gate)
        sizes = {(slope.shape, slope.dtype, slope.is_contiguous()) for slope in slopes}
        if dense is not x or len(sizes) > 1 or sizes.pop() != (slopes[0].shape[:1], ARITHMETIC[x.dtype], True):
            raise KernelUnavailableError("x has to be copied, or p1, p2, beta are not alike")
        self._address, self._strides, self._x = self._plan.address, x.stride(), (x.shape, x.dtype)
        self._places: list[int] = [*map(_place, slopes)]
        self._channels, self.dtype = slopes[0].numel(), slopes[0].dtype
        library = functions()
        self._forward, self._backward = library.aconite_acon_c_forward, library.aconite_acon_c_backward

    @classmethod
    def of(cls, x: Tensor, slopes: Sequence[Tensor], channel_dim: int, gate: str) -> AconCCall | None:
        """None where the kernel serves no such call, or not without copies."""
        if load().reason is not None or not x.is_cpu:
            return None
        try:
            return cls(x, slopes, channel_dim, gate)
        except KernelUnavailableError:
            return None

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """y, alone."""
        y = torch.empty_like(x)
        status = self._forward(self._address, x.data_ptr(), *self._places, y.data_ptr())
        if status:
            check(status)
        return (y,)

    def stays(self, held: Sequence[Tensor]) -> bool:
        """Whether x and the parameters lie as they lay."""
        x, *slopes = held
        lies = x.stride() == self._strides and (x.shape, x.dtype) == self._x
        return lies and [*map(_place, slopes)] == self._places

    def backward(self, grad: Tensor, x: Tensor, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, p1, p2, beta; that of x is None where it is not needed."""
        if grad.dtype is not x.dtype or grad.stride() != self._strides:
            grad = like(grad, x)
        dx = torch.empty_like(x) if x.requires_grad else None
        gradients = [*map(torch.empty_like, slopes)]  # in the middle of a network cheaper than one vector cut up
        status = self._backward(
            *(self._address, grad.data_ptr(), x.data_ptr(), *self._places),
            *(None if dx is None else dx.data_ptr(), *map(_place, gradients)),
        )
        if status:
            check(status)
        return dx, *gradients

    def recipe(self) -> Recipe:
        """The call for one who is not Python."""
        c, dtype = self._channels, torch.empty(0, dtype=self.dtype, device="cpu")
        gradients, length = pieces([(c,)] * 3)
        places: tuple[Argument, ...] = tuple(self._places)
        to = [(GRADIENTS, start * dtype.itemsize) for _, start in gradients]
        return Recipe(
            address(self._forward),
            (self._address, (X, 0), *places, (Y, 0)),
            address(self._backward),
            (self._address, (GRAD, 0), (X, 0), *places, (DX, 0), *to),
            (),
            gradients,
            length,
            dtype,
            False,
        )
