"""A call of Meta-ACON's kernel, bound to where its tensors lie: checked once, good as long as they stay there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import KernelUnavailableError
from ._library import functions
from ._plan import ARITHMETIC, check
from ._pointers import like, planned
from ._recipe import DX, GRAD, GRADIENTS, SAVED, Recipe, X, Y, address, pieces
from .cpu_meta import meta_call, saved_size

__all__ = ["MetaAconCCall"]


class MetaAconCCall:
    """Meta-ACON with one p1 and p2 per channel, on inputs that lie as ``x`` does."""

    copied = False  # as of `NormCall`

    def __init__(
        self, x: Tensor, p1: Tensor, p2: Tensor, generator: tuple[Any, ...], channel_dim: int, gate: str
    ) -> None:
        dense, self._plan = planned(x, (p1, p2), channel_dim, gate, meta=True)
        self._call, copies = meta_call(self._plan, x.dtype, p1, p2, generator)
        n, c, h = self._plan.n, self._plan.c, self._call.h
        if dense is not x or copies or not p1.shape == p2.shape == (c,):
            raise KernelUnavailableError("a tensor has to be copied, or p1 and p2 are not per channel")
        self._strides, self._x = x.stride(), (x.shape, x.dtype)
        self.dtype, self._saved = ARITHMETIC[x.dtype], saved_size(n, c, h)
        self._places = [t.data_ptr() for t in (p1, p2, *generator[:12]) if t is not None]
        self._present = [t is not None for t in (p1, p2, *generator[:8])]
        first, second = generator[0].shape, generator[1].shape
        # Shapes of the gradients as the library writes them, and which of them belongs to each of the tensors.
        self._shapes = (c,), (c,), first, (h,), (h,), (h,), second, (c,), (c,), (c,)
        self._order = 0, 1, 2, 6, 3, 7, 4, 5, 8, 9
        library = functions()
        self._forward, self._backward = library.aconite_meta_acon_c_forward, library.aconite_meta_acon_c_backward
        self._head = self._plan.address, self._call.record
        self._slopes = self._call.pointers[:2]

    @classmethod
    def of(
        cls, x: Tensor, p1: Tensor, p2: Tensor, generator: tuple[Any, ...], channel_dim: int, gate: str
    ) -> MetaAconCCall | None:
        """None where the kernel serves no such call, or not without copies."""
        try:
            return cls(x, p1, p2, generator, channel_dim, gate)
        except KernelUnavailableError:
            return None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and what `split_saved` names."""
        y, saved = torch.empty_like(x), torch.empty(self._saved, dtype=self.dtype, device="cpu")
        check(self._forward(*self._head, x.data_ptr(), *self._slopes, y.data_ptr(), saved.data_ptr()))
        return y, saved

    def stays(self, held: Sequence[Tensor]) -> bool:
        """Whether x, and what backward reads behind it, lie as they lay."""
        x, saved, found = held[0], held[-1], self._places
        lies = x.stride() == self._strides and (x.shape, x.dtype) == self._x
        kept = saved.shape == (self._saved,) and saved.dtype is self.dtype and saved.is_contiguous()
        return lies and kept and [t.data_ptr() for t in held[1 : len(found) + 1]] == found

    def backward(self, grad: Tensor, x: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        """Gradients of x, p1, p2 and the generator's first eight, of those that there are."""
        grad, dx, saved = like(grad, x), torch.empty_like(x), held[-1]
        shapes, count = pieces(self._shapes)
        gradients = torch.empty(count, dtype=self.dtype, device="cpu")
        check(
            self._backward(
                *(*self._head, grad.data_ptr(), x.data_ptr(), *self._slopes),
                *(saved.data_ptr(), dx.data_ptr(), gradients.data_ptr()),
            )
        )
        # Nobody else sees the whole vector, so autograd need not know of views.
        found = torch.unsafe_split_with_sizes(gradients, [torch.Size(shape).numel() for shape, _ in shapes])
        cut = (found[k].view(self._shapes[k]) for k in self._order)
        return (dx, *(g for g, present in zip(cut, self._present, strict=True) if present))

    def recipe(self) -> Recipe:
        """The call for one who is not Python."""
        gradients, count = pieces(self._shapes)
        dtype = torch.empty(0, dtype=self.dtype, device="cpu")
        return Recipe(
            address(self._forward),
            (*self._head, (X, 0), *self._slopes, (Y, 0), (SAVED, 0)),
            address(self._backward),
            (*self._head, (GRAD, 0), (X, 0), *self._slopes, (SAVED, 0), (DX, 0), (GRADIENTS, 0)),
            (((self._saved,), dtype),),
            tuple(gradients[k] for k, present in zip(self._order, self._present, strict=True) if present),
            count,
            dtype,
            True,
        )
