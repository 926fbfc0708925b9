"""A call of ACON-C's kernel, bound to where its tensors lie."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import KernelUnavailableError
from ._library import functions, load
from ._plan import ARITHMETIC
from ._pointers import planned
from .bound_call import BoundCall

__all__ = ["AconCCall"]


class AconCCall(BoundCall):
    """ACON-C with one p1, p2 and beta per channel; forward saves nothing."""

    apart = True

    def __init__(self, x: Tensor, slopes: Sequence[Tensor], channel_dim: int, gate: str) -> None:
        dense, self._plan = planned(x, slopes, channel_dim, gate)
        kinds = {(slope.shape, slope.dtype, slope.is_contiguous()) for slope in slopes}
        if dense is not x or kinds != {(slopes[0].shape[:1], ARITHMETIC[x.dtype], True)}:
            raise KernelUnavailableError("x has to be copied, or p1, p2, beta are not alike")
        library = functions()
        self._hold(
            x,
            (library.aconite_acon_c_forward, library.aconite_acon_c_backward),
            [self._plan.address],
            [slope.data_ptr() for slope in slopes],
            slopes,
            [],
            [slope.shape for slope in slopes],
        )

    @classmethod
    def of(cls, x: Tensor, slopes: Sequence[Tensor], channel_dim: int, gate: str) -> AconCCall | None:
        """None where the kernel serves no such call, or not without copies."""
        if load().reason is not None or not x.is_cpu:
            return None
        try:
            return cls(x, slopes, channel_dim, gate)
        except KernelUnavailableError:
            return None
