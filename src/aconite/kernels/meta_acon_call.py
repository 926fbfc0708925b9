"""A call of Meta-ACON's kernel, bound to where its tensors lie."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import KernelUnavailableError
from ._library import functions
from ._plan import ARITHMETIC
from ._pointers import planned
from .bound_call import BoundCall
from .cpu_meta import gradients_of, meta_call, saved_size

__all__ = ["MetaAconCCall"]


class MetaAconCCall(BoundCall):
    """Meta-ACON with one p1 and p2 per channel; forward saves what `split_saved` names."""

    def __init__(
        self, x: Tensor, p1: Tensor, p2: Tensor, generator: tuple[Any, ...], channel_dim: int, gate: str
    ) -> None:
        dense, self._plan = planned(x, (p1, p2), channel_dim, gate, meta=True)
        call, copies = meta_call(self._plan, x.dtype, p1, p2, generator)
        n, c, h = self._plan.n, self._plan.c, call.h
        if dense is not x or copies or not p1.shape == p2.shape == (c,):
            raise KernelUnavailableError("a tensor has to be copied, or p1 and p2 are not per channel")
        library = functions()
        self._hold(
            x,
            (library.aconite_meta_acon_c_forward, library.aconite_meta_acon_c_backward),
            [self._plan.address, call.record],
            call.pointers[:2],
            (p1, p2, *generator[:12]),
            [((saved_size(n, c, h),), ARITHMETIC[x.dtype])],
            *gradients_of(c, h, generator),
        )

    @classmethod
    def of(
        cls, x: Tensor, p1: Tensor, p2: Tensor, generator: tuple[Any, ...], channel_dim: int, gate: str
    ) -> MetaAconCCall | None:
        """None where the kernel serves no such call, or not without copies."""
        try:
            return cls(x, p1, p2, generator, channel_dim, gate)
        except KernelUnavailableError:
            return None
