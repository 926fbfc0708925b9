"""A call of ACON-C's kernel, bound to where its parameters lie: checked once, good as long as they stay there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import KernelUnavailableError
from ._library import functions, load
from ._plan import ARITHMETIC, check
from ._pointers import like, planned

__all__ = ["AconCCall"]


class AconCCall:
    """ACON-C with one p1, p2 and beta per channel, on inputs that lie as ``x`` does."""

    def __init__(self, x: Tensor, slopes: Sequence[Tensor], channel_dim: int, gate: str) -> None:
        dense, self._plan = planned(x, slopes, channel_dim, gate)
        self.dtype, self.strides = ARITHMETIC[x.dtype], x.stride()
        sizes = {(slope.shape, slope.dtype, slope.is_contiguous()) for slope in slopes}
        if dense is not x or len(sizes) > 1 or sizes.pop() != (slopes[0].shape[:1], self.dtype, True):
            raise KernelUnavailableError("x has to be copied, or p1, p2, beta are not alike")
        self.places = [slope.data_ptr() for slope in slopes]
        self._c = slopes[0].numel()
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
        status = self._forward(self._plan.address, x.data_ptr(), *self.places, y.data_ptr())
        if status:
            check(status)
        return (y,)

    def stays(self, x: Tensor, slopes: Sequence[Tensor]) -> bool:
        """Whether x and the parameters lie as they lay."""
        return x.stride() == self.strides and [*map(Tensor.data_ptr, slopes)] == self.places

    def backward(self, grad: Tensor, x: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, ...]:
        """Gradients of x, p1, p2, beta; that of x is None where it is not needed."""
        if grad.dtype is not x.dtype or grad.stride() != self.strides:
            grad = like(grad, x)
        dx = torch.empty_like(x) if needs[0] else None
        c = self._c
        dp1, dp2, dbeta = torch.unsafe_split(torch.empty(3 * c, dtype=self.dtype), c)
        status = self._backward(
            *(self._plan.address, grad.data_ptr(), x.data_ptr(), *self.places, None if dx is None else dx.data_ptr()),
            *(dp1.data_ptr(), dp2.data_ptr(), dbeta.data_ptr()),
        )
        if status:
            check(status)
        return dx, dp1, dp2, dbeta
