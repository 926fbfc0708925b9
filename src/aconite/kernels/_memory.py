"""Which tensors' memory holds their values as they are: not those that torch negates lazily, as ``torch.conj(z).imag``
is, nor autograd's zeros, which have no memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ORDINARY", "in_memory"]


def in_memory(tensor: Tensor) -> bool:
    """Whether a pointer to a dense tensor on the CPU leads to its values."""
    return not (tensor.is_neg() or tensor._is_zerotensor())


def _keys(inference: bool) -> int:
    with torch.inference_mode(inference):
        return torch._C._dispatch_keys(torch.empty(0, device="cpu")).raw_repr()


ORDINARY = frozenset({_keys(inference=False), _keys(inference=True)})
"""Dispatch keys of dense tensors on the CPU that are in memory, and that no transform has wrapped."""
