"""What a forward pass keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["saved_bytes"]


def saved_bytes(run: Callable[[], object], owned: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps after ``run()``; each storage counts once, however many operations keep it.

    Args:
        run: a forward pass.
        owned: tensors that exist anyway and do not count: parameters, buffers.

    >>> x = torch.zeros(10, 10, requires_grad=True)
    >>> saved_bytes(lambda: torch.nn.functional.silu(x))
    400
    """
    left_out = {tensor.untyped_storage().data_ptr() for tensor in owned}
    kept: dict[int, torch.UntypedStorage] = {}  # holds each one, so that no address is used again

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in left_out:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run()
    del result
    return sum(storage.nbytes() for storage in kept.values())
