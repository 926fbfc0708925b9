"""ACON-C of the native kernels against float64, over shapes, layouts, dtypes, parameter shapes and ISAs."""

from __future__ import annotations

import pytest
import torch
from native_truth import ULP, acon_c, broadcast
from torch import Tensor

from aconite.errors import ShapeError
from aconite.kernels import cpu

# (shape, channel_dim): rows shorter than, as long as, longer than a vector; c equal to n, l or 1; channels anywhere.
SHAPES = [
    ((2, 3, 5, 7), 1),
    ((4, 17, 7, 7), 1),
    ((2, 64, 7, 7), 1),
    ((2, 24, 4, 4), 1),
    ((11, 19, 7, 7), 1),  # samples taken together, and what is left of them and of the channels
    ((7, 16, 16, 16), 1),
    ((5, 5, 5, 5), 1),
    ((3, 1, 17), 1),
    ((1, 1, 1), 1),
    ((6, 40, 3), 1),
    ((33, 24), 1),
    ((17, 17), 1),
    ((2, 3, 40, 41), 1),
    ((1, 2, 130, 130), 1),
    ((3, 50, 24), -1),
    ((7, 5, 600), -1),
    ((2, 3, 17, 4), 2),
    ((24, 7, 7), -3),
    ((49,), 0),
]
KINDS = ("channel", "sample-channel", "scalar", "sample", "mixed")


def parameters(x: Tensor, channel_dim: int, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    channel = channel_dim % x.dim()
    n, c = (x.shape[0] if channel else 1), x.shape[channel]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    shapes = {"channel": (c,), "sample-channel": (n, c), "scalar": (), "sample": (n, 1)}
    if kind == "mixed":
        return torch.randn(c, dtype=dtype), torch.randn((), dtype=dtype), torch.randn(n, c, dtype=dtype)
    p1, p2, beta = (torch.randn(shapes[kind], dtype=dtype) for _ in range(3))
    return p1, p2, beta


def hold(x: Tensor, grad: Tensor, p: tuple[Tensor, Tensor, Tensor], channel_dim: int, gate: str) -> None:
    """The contract's bounds; half types add the one rounding of their result."""
    y = cpu.acon_c_forward(x, *p, channel_dim=channel_dim, gate=gate)
    dx, *sums = cpu.acon_c_backward(grad, x, *p, channel_dim=channel_dim, gate=gate)
    assert dx is not None
    assert y.dtype == dx.dtype == x.dtype
    assert y.stride() == dx.stride() == x.stride()
    wide = [broadcast(one, x, channel_dim) for one in p]
    truth = acon_c(x, *wide, hard=gate == "hard")
    double = x.dtype == torch.float64
    half = x.dtype in (torch.bfloat16, torch.float16)
    least = 1e-7 if x.dtype == torch.float16 else 1e-37
    size = (wide[0].double() * x.double()).abs() + (wide[1].double() * x.double()).abs()
    assert ((y.double() - truth.y).abs() <= (1 if half else 4) * ULP[x.dtype] * size + least).all()
    slope = torch.maximum(wide[0].abs(), wide[1].abs()).double() * grad.double().abs()
    bound = (1e-14 if double else 1e-5) + (2 * ULP[x.dtype] if half else 0)
    assert ((dx.double() - grad.double() * truth.slope).abs() <= bound * slope + least).all()
    for got, one, terms in zip(sums, wide, truth.terms, strict=True):
        assert got is not None
        assert got.dtype == (torch.float64 if double else torch.float32)
        all_terms = grad.double() * terms
        error = (got.double().reshape(one.shape) - all_terms.sum_to_size(one.shape)).abs()
        # gate(-|z|) - |z| gate'(z) passes through 0 near |z| = 1.28: a lone term there is held to what cancels.
        floor = (grad.double() * x.double()).abs().sum_to_size(one.shape)
        assert (
            error
            <= (1e-13 if double else 1e-5) * all_terms.abs().sum_to_size(one.shape)
            + 2e-7 * floor * (not double)
            + 1e-13 * floor
            + 1e-35
        ).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("gate", ["sigmoid", "hard"])
def test_bounds_hold_for_every_shape_and_parameter_shape(isa: str, dtype: torch.dtype, gate: str) -> None:
    torch.manual_seed(0)
    for shape, channel_dim in SHAPES:
        for kind in KINDS:
            x = (torch.randn(shape) * 3).to(dtype)
            if cpu.supports(x, *parameters(x, channel_dim, kind), channel_dim=channel_dim):
                assert channel_dim == 2
                assert kind != "channel"
                continue
            hold(x, torch.randn(shape).to(dtype), parameters(x, channel_dim, kind), channel_dim, gate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_channels_last_is_served_as_it_lies(isa: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    for shape in [
        (2, 24, 14, 14),
        (4, 17, 7, 7),
        (3, 64, 7, 7),
        (2, 600, 3, 3),
        (3, 3, 3, 3),
        (2, 5, 3, 4, 5),
        (2, 1030, 9, 9),
        (3, 16, 3, 5),
        (2, 32, 13, 13),
        (2, 48, 5, 5),
        (2, 1030, 17, 17),
    ]:
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        for kind in KINDS:
            x = torch.randn(shape).to(dtype).to(memory_format=layout)
            hold(x, torch.randn_like(x), parameters(x, 1, kind), 1, "sigmoid")
            # A gradient in the other layout, and one that is a repeated number.
            hold(x, torch.randn_like(x).contiguous(), parameters(x, 1, kind), 1, "sigmoid")
            hold(x, torch.ones((), dtype=dtype).expand(shape), parameters(x, 1, kind), 1, "sigmoid")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wide_channels_last_rows_near_and_far(isa: str, dtype: torch.dtype) -> None:
    """Four rows at once, with and without asking ahead, and the rows that are left."""
    torch.manual_seed(8)
    for shape in [(2, 96, 9, 9), (3, 280, 41, 41), (3, 523, 30, 30), (5, 1030, 15, 15)]:
        x = torch.randn(shape).to(dtype).to(memory_format=torch.channels_last)
        hold(x, torch.randn_like(x), parameters(x, 1, "channel"), 1, "sigmoid")


def test_sums_of_equal_terms_over_many_samples(isa: str) -> None:
    """Roundings in one direction, which random numbers hide."""
    for shape in [(8, 8, 22, 22), (8, 8, 31, 31)]:
        x = torch.linspace(0.5, 1.9, 8).view(1, 8, 1, 1).expand(shape).contiguous()
        hold(x, torch.ones(shape), (torch.full((8,), 1.2), torch.full((8,), -0.3), torch.full((8,), 0.9)), 1, "sigmoid")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_tensors_that_no_cache_holds_are_computed_as_their_samples(layout: torch.memory_format) -> None:
    """Stores past the caches, to aligned and to odd addresses; samples one by one go through the caches."""
    torch.manual_seed(9)
    for shape in [(9, 130, 75, 75), (8, 64, 112, 112)]:
        x, grad = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
        p = parameters(x, 1, "channel")
        y = cpu.acon_c_forward(x, *p)
        dx, *sums = cpu.acon_c_backward(grad, x, *p)
        assert dx is not None
        apart = []
        for i in range(shape[0]):
            one = slice(i, i + 1)
            assert torch.equal(y[one], cpu.acon_c_forward(x[one], *p))
            sample = cpu.acon_c_backward(grad[one], x[one], *p)
            assert torch.equal(dx[one], sample[0])
            apart.append(sample[1:])
        for got, samples in zip(sums, zip(*apart, strict=True), strict=True):
            torch.testing.assert_close(got, torch.stack(samples).double().sum(0).float(), atol=0.02, rtol=1e-5)


def test_sliced_transposed_and_repeated_inputs() -> None:
    torch.manual_seed(2)
    base = torch.randn(6, 20, 9, 9)
    for x in (
        base[::2],
        base[:, 3:13],
        base[:, :, 1:8, 1:8],
        base.transpose(2, 3),
        base.permute(2, 1, 0, 3),
        base[:1].expand(4, 20, 9, 9),
    ):
        p = parameters(x, 1, "channel")
        dense = x.contiguous()
        grad = torch.randn(x.shape)
        torch.testing.assert_close(cpu.acon_c_forward(x, *p), cpu.acon_c_forward(dense, *p))
        for one, other in zip(cpu.acon_c_backward(grad, x, *p), cpu.acon_c_backward(grad, dense, *p), strict=True):
            torch.testing.assert_close(one, other)


def test_parameters_of_any_dtype_and_stride() -> None:
    x = torch.randn(4, 8, 5)
    wide = torch.randn(8, 3)
    p = (wide[:, 0], wide[:, 1].half(), wide[:, 2].double())
    expected = cpu.acon_c_forward(x, *(one.float().contiguous() for one in p))
    assert torch.equal(cpu.acon_c_forward(x, *p), expected)
    four = tuple(one.float().reshape(1, 8, 1) for one in p)
    assert torch.equal(cpu.acon_c_forward(x, *four), expected)
    gradients = cpu.acon_c_backward(x, x, *four)
    assert [g.shape for g in gradients if g is not None] == [x.shape, (1, 8, 1), (1, 8, 1), (1, 8, 1)]


def test_needs_says_which_gradients_come() -> None:
    x, grad, p = torch.randn(3, 8, 6), torch.randn(3, 8, 6), [torch.randn(8) for _ in range(3)]
    everything = cpu.acon_c_backward(grad, x, *p)
    for mask in range(16):
        needs = (bool(mask & 1), bool(mask & 2), bool(mask & 4), bool(mask & 8))
        for wanted, got, full in zip(needs, cpu.acon_c_backward(grad, x, *p, needs=needs), everything, strict=True):
            assert (got is not None) == wanted
            if got is not None:
                torch.testing.assert_close(got, full, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0,), (2, 0)])
def test_empty_tensors_have_zero_parameter_gradients(shape: tuple[int, ...]) -> None:
    dim = min(1, len(shape) - 1)
    x = torch.empty(shape)
    p = [torch.randn(shape[dim]) for _ in range(3)]
    assert cpu.acon_c_forward(x, *p, channel_dim=dim).shape == shape
    for one in cpu.acon_c_backward(x, x, *p, channel_dim=dim)[1:]:
        assert one is not None
        assert torch.equal(one, torch.zeros(shape[dim]))


def test_a_gradient_of_another_shape_is_an_error() -> None:
    x, p = torch.randn(4, 3), [torch.randn(3) for _ in range(3)]
    with pytest.raises(ShapeError, match=r"\(1, 3\)"):
        cpu.acon_c_backward(torch.randn(1, 3), x, *p)
