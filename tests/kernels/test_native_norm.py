"""The fused norm against float64 autograd of the plain formula: values, statistics, every gradient, hard cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aconite import reference
from aconite.errors import SettingsError, ShapeError
from aconite.kernels import Generator, norm
from aconite.kernels.norm import Norm

LIMIT = {torch.float32: 3e-5, torch.float64: 1e-11, torch.bfloat16: 1.5e-2, torch.float16: 2e-3}
ARITHMETIC = {torch.float64: torch.float64}
SHAPES = [
    (4, 5, 7, 7),  # rows of several channels in one vector
    (3, 17, 40, 40),  # long rows
    (6, 24, 9, 9),  # channels last: two rows folded into one period
    (16, 16, 16),
    (5, 40),
    (9, 130, 2, 2),  # rows shorter than a vector
    (4, 600, 3, 3),  # channels last: more than one block
    (4, 600, 9, 9),  # and of several parts
    (3, 1, 5, 5),
    (2, 3, 5, 4, 6),
]
CASES = [("acon_c", "sigmoid"), ("acon_c", "hard"), ("relu", "sigmoid"), ("identity", "sigmoid")]


def per_channel(t: Tensor, x: Tensor) -> Tensor:
    return t.view(1, -1, *[1] * (x.ndim - 2))


def normed(x: Tensor, weight: Tensor, bias: Tensor, known: tuple[Tensor, Tensor] | None) -> Tensor:
    dims = [d for d in range(x.ndim) if d != 1]
    mean, var = (x.mean(dims), x.var(dims, unbiased=False)) if known is None else known
    z = (x - per_channel(mean, x)) * torch.rsqrt(per_channel(var, x) + 1e-5)
    return z * per_channel(weight, x) + per_channel(bias, x)


def plain(z: Tensor, slopes: list[Tensor], activation: str, gate: str) -> Tensor:
    if activation == "identity":
        return z
    if activation == "relu":
        return z.relu()
    p1, p2, beta = (per_channel(p, z) for p in slopes)
    return reference.acon_c(z, p1, p2, beta, gate)


def close(found: Tensor, truth: Tensor, limit: float) -> None:
    error = (found.double() - truth).abs().max()
    assert error <= limit * truth.abs().max().clamp_min(1e-3), f"{error / truth.abs().max():.2e}"


def draw(shape: tuple[int, ...], dtype: torch.dtype, last: bool) -> tuple[Tensor, Tensor]:
    offset = 5 * torch.randn(1, shape[1], *[1] * (len(shape) - 2))
    x, grad = (2 * torch.randn(shape) + offset).to(dtype), torch.randn(shape).to(dtype)
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x, grad


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "running"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("dtype", LIMIT)
def test_values_and_gradients(isa: str, dtype: torch.dtype, last: bool, batch: bool) -> None:
    torch.manual_seed(0)
    wide, limit = ARITHMETIC.get(dtype, torch.float32), LIMIT[dtype]
    for shape in SHAPES:
        for activation, gate in CASES:
            x, grad = draw(shape, dtype, last)
            vectors = [torch.randn(shape[1], dtype=wide) for _ in range(5)]
            vectors[0][0] = 0  # a weight of zero: its gradient is not zero
            mean, var = torch.randn(shape[1], dtype=wide), torch.rand(shape[1], dtype=wide) + 0.5
            given = Norm(*vectors[:2], *((None, None) if batch else (mean, var)))
            how = {"activation": activation, "gate": gate}
            y, statistics = norm.batch_norm_forward(x, given, *vectors[2:], **how)
            found = norm.batch_norm_backward(grad, x, given, *vectors[2:], statistics, batch=batch, **how)

            truth = [t.double().requires_grad_() for t in (x, *vectors)]
            known = None if batch else (mean.double(), var.double())
            z = normed(*truth[:3], known)
            expected = plain(z, truth[3:], activation, gate)
            assert y.dtype is dtype
            assert found.x.dtype is dtype
            assert y.stride() == x.stride()
            close(y, expected.detach(), limit)
            # at a kink of relu or of the hard gate rounding chooses the side
            if (activation, gate) == CASES[0] or dtype in (torch.float32, torch.float64):
                expected.backward(grad.double())
                for gradient, t in zip(found, truth, strict=True):
                    if t.grad is not None:
                        close(gradient, t.grad, 20 * limit)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_tensors_that_no_cache_holds(last: bool) -> None:
    """Stores past the caches: rows of 75 x 75 begin at every address of a cache line."""
    torch.manual_seed(7)
    x, grad = draw((9, 130, 75, 75), torch.float32, last)
    vectors = [torch.randn(130) for _ in range(5)]
    given = Norm(*vectors[:2], None, None)
    y, statistics = norm.batch_norm_forward(x, given, *vectors[2:])
    found = norm.batch_norm_backward(grad, x, given, *vectors[2:], statistics, batch=True)
    truth = [t.double().requires_grad_() for t in (x, *vectors)]
    expected = plain(normed(*truth[:3], None), truth[3:], "acon_c", "sigmoid")
    close(y, expected.detach(), 3e-5)
    expected.backward(grad.double())
    for gradient, t in zip(found, truth, strict=True):
        assert t.grad is not None
        close(gradient, t.grad, 6e-4)
    known = Norm(*vectors[:2], *statistics.float().view(2, -1))
    y = norm.batch_norm_forward(x, known, *vectors[2:])[0]
    close(y, expected.detach(), 3e-5)
    assert torch.equal(norm.batch_norm_forward(x[3:4], known, *vectors[2:])[0], y[3:4])


def generator(c: int, hidden: int, dtype: torch.dtype) -> Generator:
    def r(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    weights = r(hidden, c) / c**0.5, r(c, hidden) / hidden**0.5, r(hidden), r(c)
    return Generator(*weights, r(hidden), r(hidden), r(c), r(c), norm="batch")


def meta_truth(t: list[Tensor], known: tuple[Tensor, Tensor] | None, gate: str) -> Tensor:
    x, weight, bias, p1, p2, *g = t
    z = normed(x, weight, bias, known)
    values = z.mean(list(range(2, z.ndim))) if z.ndim > 2 else z
    for matrix, shift, gain, offset in ((g[0], g[2], g[4], g[5]), (g[1], g[3], g[6], g[7])):
        values = normed(values @ matrix.t() + shift, gain, offset, None)
    beta = reference.gate_function(gate)(values)
    p1, p2 = per_channel(p1, z), per_channel(p2, z)
    return reference.acon_c(z, p1, p2, beta.view(*beta.shape, *[1] * (z.ndim - 2)), gate)


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "running"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("dtype", LIMIT)
def test_meta_values_and_gradients(isa: str, dtype: torch.dtype, last: bool, batch: bool) -> None:
    torch.manual_seed(0)
    wide, limit = ARITHMETIC.get(dtype, torch.float32), LIMIT[dtype]
    for number, shape in enumerate(s for s in SHAPES if s[0] > 3):
        gate = ("sigmoid", "hard")[number % 2]
        c, hidden = shape[1], 4 + number
        x, grad = draw(shape, dtype, last)
        x = x + torch.randn(shape[0], c, *[1] * (len(shape) - 2)).to(dtype)  # samples differ, and so do their betas
        vectors = [torch.randn(c, dtype=wide) for _ in range(4)]
        mean, var = torch.randn(c, dtype=wide), torch.rand(c, dtype=wide) + 0.5
        given = Norm(*vectors[:2], *((None, None) if batch else (mean, var)))
        net = generator(c, hidden, wide)
        y, statistics, saved = norm.batch_norm_meta_forward(x, given, *vectors[2:], net, gate=gate)
        found = norm.batch_norm_meta_backward(
            grad, x, given, *vectors[2:], net, statistics, saved, batch=batch, gate=gate
        )
        truth = [t.double().requires_grad_() for t in (x, *vectors, *net[:8])]
        expected = meta_truth(truth, None if batch else (mean.double(), var.double()), gate)
        close(y, expected.detach(), 4 * limit)
        expected.backward(grad.double())
        allowed = (100 if dtype in (torch.float32, torch.float64) else 4) * limit
        for index, (gradient, t) in enumerate(zip(found, truth, strict=True)):
            if index not in (7, 8, 10):  # biases in front of a norm: zero in exact arithmetic
                close(gradient, t.grad, allowed)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("shape", [(8, 6, 56, 56), (8, 32, 7, 7), (512, 20)])
@pytest.mark.parametrize("batch", [True, False], ids=["batch", "running"])
def test_large_mean_small_deviation(isa: str, shape: tuple[int, ...], last: bool, batch: bool) -> None:
    torch.manual_seed(0)
    x = (1e4 + 1e-2 * torch.randn(shape, dtype=torch.float64)).float()
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    grad = torch.randn(shape)
    c = shape[1]
    dims = [d for d in range(x.ndim) if d != 1]
    vectors = [torch.rand(c) + 0.5, torch.randn(c), torch.randn(c), torch.randn(c), torch.ones(c)]
    mean, var = x.double().mean(dims), x.double().var(dims, unbiased=False)
    known = (mean.float(), var.float())
    given = Norm(*vectors[:2], *((None, None) if batch else known))
    y, statistics = norm.batch_norm_forward(x, given, *vectors[2:])
    if batch:
        torch.testing.assert_close(statistics[0], mean, rtol=1e-10, atol=0)
        torch.testing.assert_close(statistics[1], var, rtol=1e-5, atol=0)
    truth = [t.double().requires_grad_() for t in (x, *vectors)]
    z = normed(*truth[:3], None if batch else (known[0].double(), known[1].double()))
    expected = plain(z, truth[3:], "acon_c", "sigmoid")
    expected.backward(grad.double())
    close(y, expected.detach(), 1e-5)
    found = norm.batch_norm_backward(grad, x, given, *vectors[2:], statistics, batch=batch)
    for gradient, t in zip(found, truth, strict=True):
        close(gradient, t.grad, 1e-4)


@pytest.mark.parametrize("shape", [(6, 40, 14, 14), (4, 3, 70, 70), (16, 64, 7, 7), (4, 600, 9, 9)])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_threads_change_nothing(isa: str, shape: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(0)
    x, grad = draw(shape, torch.float32, last)
    c = shape[1]
    vectors = [torch.randn(c) for _ in range(5)]
    net = generator(c, 8, torch.float32)

    def run() -> list[Tensor]:
        given = Norm(*vectors[:2])
        y, statistics = norm.batch_norm_forward(x, given, *vectors[2:])
        results = [y, statistics, *norm.batch_norm_backward(grad, x, given, *vectors[2:], statistics, batch=True)]
        y, statistics, saved = norm.batch_norm_meta_forward(x, given, *vectors[2:4], net)
        back = norm.batch_norm_meta_backward(grad, x, given, *vectors[2:4], net, statistics, saved, batch=True)
        return [*results, y, statistics, saved, *back]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run()
        torch.set_num_threads(3)
        together = run()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_scalar_parameters_odd_gradients_and_layouts(isa: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 5, 4, 7)
    given, slopes = Norm(torch.rand(5), torch.randn(5)), (torch.tensor(1.0), torch.tensor(0.25), torch.tensor(2.0))
    wide = tuple(s.expand(5).contiguous() for s in slopes)
    y, statistics = norm.batch_norm_forward(x, given, *wide)
    for other in (x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), torch.cat([x, x], 3)[:, :, :, :7]):
        torch.testing.assert_close(norm.batch_norm_forward(other, given, *slopes)[0], y)
    one = torch.ones(()).expand(x.shape)  # stride 0, as sum() leaves it
    found = norm.batch_norm_backward(one, x, given, *wide, statistics, batch=True)
    dense = norm.batch_norm_backward(one.contiguous(), x, given, *wide, statistics, batch=True)
    assert all(torch.equal(a, b) for a, b in zip(found, dense, strict=True))


def test_refusals(isa: str) -> None:
    x, v = torch.randn(4, 3, 2, 2), torch.ones(3)
    assert norm.supports_norm(x, v, v, v) is None
    assert "empty" in str(norm.supports_norm(x[:0]))
    assert "per channel" in str(norm.supports_norm(x, torch.ones(4, 3)))
    assert "two dimensions" in str(norm.supports_norm(v))
    with pytest.raises(ShapeError, match="norm of 3 channels"):
        norm.batch_norm_forward(x, Norm(torch.ones(4)), v, v, v)
    with pytest.raises(SettingsError, match="activation"):
        norm.batch_norm_forward(x, Norm(), v, v, v, activation="gelu")
    with pytest.raises(ShapeError, match="statistics"):
        norm.batch_norm_backward(x, x, Norm(), v, v, v, torch.zeros(2, 4), batch=True)
