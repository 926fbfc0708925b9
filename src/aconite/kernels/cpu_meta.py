"""Meta-ACON's native CPU kernel: pooling, the generator network and the activation in one call."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import KernelUnavailableError, SettingsError, ShapeError
from ._generator import NORMS, Generator, MetaGradients
from ._library import functions
from ._memory import in_memory
from ._plan import ARITHMETIC, DTYPES, Plan, check, meta_refusal
from ._pointers import like, one, planned
from ._recipe import POINTER

__all__ = [
    "MetaCall",
    "MetaStatisticsUpdate",
    "gradients_of",
    "meta_acon_c_backward",
    "meta_acon_c_forward",
    "meta_backward",
    "meta_call",
    "meta_forward",
    "saved_size",
    "supports_meta",
]


def supports_meta(x: Tensor, p1: Tensor, p2: Tensor, *, channel_dim: int = 1) -> str | None:
    """None if the native kernels serve Meta-ACON on x, else the reason why not."""
    return meta_refusal(x, p1, p2, channel_dim)


class MetaCall(NamedTuple):
    """What a forward call leaves its backward call; `pointers` are of p1, p2 and the generator's tensors, `x` of x."""

    address: int
    record: bytes
    pointers: list[int]
    n: int
    c: int
    h: int
    x: int = 0


def meta_acon_c_forward(
    x: Tensor, p1: Tensor, p2: Tensor, generator: Generator, *, channel_dim: int = 1, gate: str = "sigmoid"
) -> tuple[Tensor, Tensor]:
    """ACON-C whose beta the generator makes from x's mean over positions; returns y and what to save for backward.

    `split_saved` names the parts of that vector, among them beta and the batch statistics.
    """
    y, saved, _ = meta_forward(x, p1, p2, generator, channel_dim, gate)
    return y, saved


def meta_forward(
    x: Tensor, p1: Tensor, p2: Tensor, generator: tuple[Any, ...], channel_dim: int, gate: str
) -> tuple[Tensor, Tensor, MetaCall | None]:
    """`meta_acon_c_forward`, and what `meta_backward` may use again; None where a tensor had to be copied.

    `generator` is a `Generator` or a plain tuple like it, which takes less time to make.
    """
    given = x
    x, plan = planned(x, (p1, p2), channel_dim, gate, meta=True)
    call, kept = meta_call(plan, x.dtype, p1, p2, generator)
    y = torch.empty_like(x)
    saved = torch.empty(saved_size(plan.n, plan.c, call.h), dtype=ARITHMETIC[x.dtype], device="cpu")
    place = x.data_ptr()
    status = functions().aconite_meta_acon_c_forward(
        plan.address, call.record, place, call.pointers[0], call.pointers[1], y.data_ptr(), saved.data_ptr()
    )
    if status:
        check(status)
    return y, saved, None if kept or x is not given else MetaCall(*call[:-1], place)


def meta_acon_c_backward(
    grad: Tensor,
    x: Tensor,
    p1: Tensor,
    p2: Tensor,
    generator: Generator,
    saved: Tensor,
    *,
    channel_dim: int = 1,
    gate: str = "sigmoid",
) -> MetaGradients:
    """All gradients of `meta_acon_c_forward`, through beta and the pooling as well."""
    return meta_backward(None, grad, saved, x, p1, p2, generator, channel_dim, gate)


def meta_backward(
    call: MetaCall | None,
    grad: Tensor,
    saved: Tensor,
    x: Tensor,
    p1: Tensor,
    p2: Tensor,
    generator: tuple[Any, ...],
    channel_dim: int,
    gate: str,
) -> MetaGradients:
    """`meta_acon_c_backward`; with the call of `meta_forward` on the very same values nothing is checked again."""
    kept: list[Tensor] = []
    # The values have not changed since (autograd sees to that), but a saved-tensor hook may have moved them.
    places = [0 if t is None else t.data_ptr() for t in (p1, p2, *generator[:12])]
    if call is None or call.x != x.data_ptr() or call.pointers != places:
        x, plan = planned(x, (p1, p2), channel_dim, gate, meta=True)
        call, kept = meta_call(plan, x.dtype, p1, p2, generator)
        want, expected = ARITHMETIC[x.dtype], saved_size(plan.n, plan.c, call.h)
        if saved.numel() != expected or saved.dtype is not want or not saved.is_contiguous():
            raise ShapeError(f"saved has {saved.numel()} numbers of {saved.dtype}; forward made {expected} of {want}")
    grad, saved = like(grad, x), one(saved, saved.dtype)
    dx = torch.empty_like(x)
    shapes, order = gradients_of(call.c, call.h, generator)
    sizes = [torch.Size(shape).numel() for shape in shapes]
    gradients = torch.empty(sum(sizes), dtype=saved.dtype, device="cpu")
    status = functions().aconite_meta_acon_c_backward(
        call.address,
        call.record,
        grad.data_ptr(),
        x.data_ptr(),
        call.pointers[0],
        call.pointers[1],
        saved.data_ptr(),
        dx.data_ptr(),
        gradients.data_ptr(),
    )
    if status:
        check(status)
    del kept
    # One vector for all of them, cut by one call; nobody else sees the whole, so autograd need not know of views.
    found = torch.unsafe_split_with_sizes(gradients, sizes)
    dp1, dp2, *rest = (found[k].view(shapes[k]) for k in order)
    return MetaGradients(
        dx,
        dp1 if p1.shape == dp1.shape else dp1[: p1.numel()].view(p1.shape),
        dp2 if p2.shape == dp2.shape else dp2[: p2.numel()].view(p2.shape),
        *(None if t is None else g for g, t in zip(rest, generator[:8], strict=True)),  # type: ignore[arg-type]
    )


def gradients_of(c: int, h: int, generator: tuple[Any, ...]) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Shapes of the gradients behind dx as the library writes them, and which of them belongs to p1, p2 and each of the
    generator's first eight.
    """
    first, second = tuple(generator[0].shape), tuple(generator[1].shape)
    return ((c,), (c,), first, (h,), (h,), (h,), second, (c,), (c,), (c,)), (0, 1, 2, 6, 3, 7, 4, 5, 8, 9)


# aconite_running behind its first pointer: six pointers, share1, share2, n, c, hidden, dtype, reserved.
_RUNNING = struct.Struct("@6P2d3q2i")


class MetaStatisticsUpdate:
    """Moves the running statistics of both norms, in place, by what `meta_acon_c_forward` saved under norm="batch".

    As torch.nn.BatchNorm2d does it: the variance unbiased, steps counted, a momentum of None for the plain average.
    Bound to where the buffers lie: good as long as they stay there. ``MetaStatisticsUpdate.of`` gives None where they
    are of another kind than what was saved. Attributes as of `norm.StatisticsUpdate`.
    """

    def __init__(self, buffers: tuple[Tensor, ...], momenta: Sequence[float | None], n: int) -> None:
        m1, m2, v1, v2, s1, s2 = self.buffers = buffers
        self.update = functions().aconite_meta_update_statistics
        pointers = [tensor.data_ptr() for tensor in (m1, v1, m2, v2, s1, s2)]
        shares = [-1.0 if share is None else share for share in momenta]
        self.rest = _RUNNING.pack(*pointers, *shares, n, m2.numel(), m1.numel(), DTYPES[m1.dtype], 0)

    @classmethod
    def of(
        cls,
        dtype: torch.dtype,
        means: Sequence[Tensor],
        variances: Sequence[Tensor],
        steps: Sequence[Tensor],
        momenta: Sequence[float | None],
        n: int,
    ) -> MetaStatisticsUpdate | None:
        """For `n` images whose saved vector is of this dtype; of both norms the first, then the second."""
        buffers = (*means, *variances, *steps)
        for tensor in buffers:
            if not (tensor.is_cpu and tensor.is_contiguous() and in_memory(tensor)):
                return None
        if [tensor.dtype for tensor in buffers] != [dtype, dtype, dtype, dtype, torch.int64, torch.int64]:
            return None
        if any(t.is_inference() for t in buffers):  # they have no version to raise
            return None
        return cls(buffers, momenta, n)

    def __call__(self, saved: Tensor) -> None:
        check(self.update(POINTER.pack(saved.data_ptr()) + self.rest))
        torch.autograd.graph.increment_version(self.buffers)


def saved_size(n: int, c: int, h: int) -> int:
    """How many numbers a forward call saves."""
    return 3 * n * c + n * h + 2 * h + 2 * c


# aconite_generator: twelve pointers, eps1, eps2, scale, hidden, norm, reserved.
_RECORD = struct.Struct("@12P3dq2i")


def meta_call(
    plan: Plan, dtype: torch.dtype, p1: Tensor, p2: Tensor, generator: tuple[Any, ...]
) -> tuple[MetaCall, list[Tensor]]:
    """The C record and its pointers, and the copies that must live as long as they."""
    *tensors, norm, eps1, eps2, scale = generator
    if norm not in NORMS:
        raise SettingsError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    if norm == "running" and any(t is None for t in tensors[8:]):
        raise SettingsError('norm="running" needs bn1_mean, bn1_var, bn2_mean and bn2_var')
    c, h, want = plan.c, tensors[0].shape[0], ARITHMETIC[dtype]
    pointers: list[int] = []
    kept: list[Tensor] = []
    hc = h * c
    sizes = (p1.numel(), p2.numel(), hc, hc, h, c, h, h, c, c, h, h, c, c)
    for tensor, size in zip((p1, p2, *tensors), sizes, strict=True):
        if tensor is None:
            pointers.append(0)
            continue
        if tensor.numel() != size:
            raise ShapeError(
                f"a generator for {c} channels with {h} hidden has a tensor of shape {tuple(tensor.shape)}; "
                f"expected fc1_weight ({h}, {c}), fc2_weight ({c}, {h}), first norm and bias ({h},), second ({c},)"
            )
        if not tensor.is_cpu:
            raise KernelUnavailableError(f"the native kernels run on the CPU, not on {tensor.device}")
        if tensor.dtype is not want or not tensor.is_contiguous() or not in_memory(tensor):
            tensor = one(tensor, want)
            kept.append(tensor)
        pointers.append(tensor.data_ptr())
    _, _, pw1, pw2, pb1, pb2, pg1, po1, pg2, po2, pm1, pv1, pm2, pv2 = pointers
    record = _RECORD.pack(
        *(pw1, pb1, pg1, po1, pm1, pv1, pw2, pb2, pg2, po2, pm2, pv2), eps1, eps2, scale, h, NORMS[norm], 0
    )
    return MetaCall(plan.address, record, pointers, plan.n, c, h), kept
