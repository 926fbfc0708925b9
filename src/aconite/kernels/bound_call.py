"""A kernel's call, bound to where its tensors lie: checked once, good as long as they stay there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._plan import ARITHMETIC, check
from ._pointers import like
from ._recipe import DX, GRAD, GRADIENTS, SAVED, Argument, Recipe, X, Y, address, pieces

__all__ = ["BoundCall"]

_place = Tensor.data_ptr
Kind = tuple[tuple[int, ...], torch.dtype]


class BoundCall:
    """What all kernels with one large input x have in common, on inputs that lie as ``x`` does.

    The C functions are ``forward(*head, x, *slopes, y, *saved)`` and ``backward(*head, grad, x, *slopes, *saved, dx,
    gradients)``; saved is what forward returns beside y.

    Attributes:
        apart: backward takes a pointer for each gradient, and null for a dx that nobody wants; else one vector that
            holds all gradients, and dx always.
        copied: some tensors had to be converted, so that the call is good for their present values only.
        dtype: of arithmetic and gradients.
    """

    apart: ClassVar[bool] = False
    copied = False
    dtype: torch.dtype

    def _hold(
        self,
        x: Tensor,
        functions: tuple[Callable[..., int], Callable[..., int]],
        head: Sequence[int | bytes],
        slopes: Sequence[int],
        reads: Sequence[Tensor | None],
        saved: list[Kind],
        shapes: Sequence[Sequence[int]],
        order: Sequence[int] | None = None,
    ) -> None:
        """Hold on to the call; the owner of whatever the pointers lead to holds on to that.

        Args:
            x: an input.
            functions: forward and backward.
            head: their first arguments.
            slopes: pointers of what stands behind x in their arguments.
            reads: the tensors that backward reads beside x, those with a gradient first.
            saved: shape and dtype of each tensor that forward returns beside y.
            shapes: of the gradients behind dx, as the library writes them.
            order: which of these belongs to each of ``reads``, where the order is another.
        """
        self._forward, self._backward = functions
        self._head, self._slopes, self._saved = head, slopes, saved
        self._lies, self.dtype = (x.shape, x.stride(), x.dtype), ARITHMETIC[x.dtype]
        self._places = [t.data_ptr() for t in reads if t is not None]
        self._pieces, self._length = pieces(shapes)
        self._sizes = [torch.Size(shape).numel() for shape in shapes]
        order = range(len(shapes)) if order is None else order
        self._order = [k for k, t in zip(order, reads, strict=False) if t is not None] if reads else list(order)
        size = self.dtype.itemsize
        self._to = [start * size for _, start in self._pieces] if self.apart else [0]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """y, and what forward saves."""
        y = torch.empty_like(x)
        saved = [torch.empty(shape, dtype=dtype, device="cpu") for shape, dtype in self._saved]
        status = self._forward(*self._head, x.data_ptr(), *self._slopes, y.data_ptr(), *map(_place, saved))
        if status:
            check(status)
        return (y, *saved)

    def stays(self, held: Sequence[Tensor]) -> bool:
        """Whether x, what backward reads behind it, and what forward saved lie as they lay."""
        x, count = held[0], 1 + len(self._places)
        lies = (x.shape, x.stride(), x.dtype) == self._lies
        return lies and [*map(_place, held[1:count])] == self._places and self.made(held[count:])

    def made(self, saved: Sequence[Tensor]) -> bool:
        """Whether these are of the kind that forward saves."""
        kinds = [(tuple(t.shape), t.dtype) for t in saved]
        return kinds == self._saved and all(t.is_contiguous() for t in saved)

    def backward(self, grad: Tensor, x: Tensor, *held: Tensor) -> tuple[Any, ...]:
        """Gradients of x and of those of ``reads`` that have one. What forward saved comes last in ``held``."""
        if grad.dtype is not x.dtype or grad.stride() != x.stride():
            grad = like(grad, x)
        dx = torch.empty_like(x) if x.requires_grad or not self.apart else None
        gradients = torch.empty(self._length, dtype=self.dtype, device="cpu")
        begin = gradients.data_ptr()
        saved = held[len(held) - len(self._saved) :]
        status = self._backward(
            *(*self._head, grad.data_ptr(), x.data_ptr(), *self._slopes, *map(_place, saved)),
            *(None if dx is None else dx.data_ptr(), *(begin + offset for offset in self._to)),
        )
        if status:
            check(status)
        # Nobody else sees the whole vector, so autograd need not know of views.
        found = torch.unsafe_split_with_sizes(gradients, self._sizes)
        return dx, *(
            found[k] if len(self._pieces[k][0]) == 1 else found[k].view(self._pieces[k][0]) for k in self._order
        )

    def recipe(self) -> Recipe:
        """The call for one who is not Python."""
        head: tuple[Argument, ...] = tuple(self._head)
        slopes: tuple[Argument, ...] = tuple(self._slopes)
        saved = tuple((SAVED + i, 0) for i in range(len(self._saved)))
        return Recipe(
            address(self._forward),
            (*head, (X, 0), *slopes, (Y, 0), *saved),
            address(self._backward),
            (*head, (GRAD, 0), (X, 0), *slopes, *saved, (DX, 0), *((GRADIENTS, offset) for offset in self._to)),
            tuple((shape, torch.empty(0, dtype=dtype, device="cpu")) for shape, dtype in self._saved),
            tuple(self._pieces[k] for k in self._order),
            self._length,
            torch.empty(0, dtype=self.dtype, device="cpu"),
            not self.apart,
        )
