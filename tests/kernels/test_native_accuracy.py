"""The error budgets written in csrc/exp.h, and what must be exact: limits, infinities, NaN."""

from __future__ import annotations

import math

import torch
from native_truth import acon_c

from aconite.kernels import cpu

# csrc/exp.h: relative error of e^-|z| while it is a normal number; without FMA 4.2e-8 more per unit of |z| / ln 2.
EXP_BUDGET = 4e-7


def test_exponential_keeps_its_budget(isa: str) -> None:
    """For p1 = 1, p2 = 0 and x < -17 the slope of swish's value is e^z to float accuracy: y / x = e^z / (1 + e^z)."""
    x = -torch.linspace(0, 86, 400_001)
    y = cpu.acon_c_forward(x.view(1, 1, -1), *(torch.tensor([v]) for v in (1.0, 0.0, 1.0))).view(-1)
    ratio = y.double() / x.double()
    truth = torch.sigmoid(x.double())
    error = ((ratio - truth).abs() / truth)[1:]
    # Added: y's own three roundings (sum, quotient, product), and the rounding of log2(e), 2.6e-8 for each unit of |z|,
    # since the forward leaves the low part out.
    without_fma = 4.2e-8 / math.log(2) * x.double().abs()[1:] if isa == "baseline" else 0
    assert (error <= EXP_BUDGET + 1.8e-7 + 3.1e-8 * x.double().abs()[1:] + without_fma).all()


def test_slope_sums_keep_relative_accuracy_far_out(isa: str) -> None:
    """beta's gradient where gate' is tiny: there the low part of k counts."""
    z = torch.linspace(-80, 80, 1601).view(1, -1)
    p = [torch.full((1601,), v) for v in (1.3, -0.4, 0.77)]
    x = z / (0.77 * 1.7)
    truth = acon_c(x, *p)
    got = cpu.acon_c_backward(torch.ones_like(x), x, *p)[3]
    assert got is not None
    error = (got.double() - truth.terms[2][0]).abs() / truth.terms[2][0].abs().clamp_min(1e-30)
    limit = 1e-5 if isa != "baseline" else 2e-5
    assert error.max() <= limit


def test_large_inputs_stay_within_four_ulp(isa: str) -> None:
    torch.manual_seed(3)
    x = torch.cat([torch.logspace(-6, 4, 4000), -torch.logspace(-6, 4, 4000)]).expand(8, 64, 8000)[:, :4].contiguous()
    p = [torch.randn(4) * s for s in (2.0, 2.0, 5.0)]
    wide = [one.view(1, 4, 1) for one in p]
    error = (cpu.acon_c_forward(x, *p).double() - acon_c(x, *wide).y).abs()
    assert (error <= 4 * 2.0**-23 * ((wide[0] * x).abs() + (wide[1] * x).abs()).double()).all()


def test_infinities_reach_the_limit_and_nan_comes_only_from_nan(isa: str) -> None:
    inf, big = math.inf, 3e38
    for p1, p2, beta, x, expected in [
        (1.0, 0.0, 1.0, inf, inf),
        (1.0, 0.0, 1.0, -inf, 0.0),
        (1.0, 0.25, 1.0, -inf, -inf),
        (1.0, -0.25, 1.0, -inf, inf),
        (1.0, 0.25, -1.0, inf, inf),
        (0.0, 1.0, -1.0, inf, 0.0),
        (0.0, 0.0, 1.0, inf, 0.0),
        (0.5, 0.5, 1.0, inf, inf),
        (2.0, 1.0, 0.0, inf, inf),
        (1.0, 0.0, 1.0, big, big),
        (1.0, 0.0, 1.0, -big, 0.0),
        (1.0, 0.0, inf, 2.0, 2.0),
        (1.0, 0.0, inf, -2.0, 0.0),
        (1.0, 0.0, -inf, 2.0, 0.0),
        (1.0, 1.0, inf, 2.0, 2.0),
        (big, -big, 1.0, 1.0, big),
        (1.0, 0.0, 1.0, math.nan, math.nan),
        (math.nan, 0.0, 1.0, 1.0, math.nan),
        (1.0, 0.0, math.nan, 1.0, math.nan),
    ]:
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for width in (1, 17, 49):
                t = torch.full((1, 2, width), x, dtype=dtype)
                p = [torch.tensor([v, v]) for v in (p1, p2, beta)]
                if dtype is not torch.float64 and max(p1, p2, -p2) > 1e38 and width == 1:
                    continue
                y = cpu.acon_c_forward(t, *p)
                want = torch.full_like(t, expected)
                torch.testing.assert_close(
                    y, want, rtol=1e-2, atol=1e-30, equal_nan=True, msg=f"{(p1, p2, beta, x, dtype)}"
                )
                dx = cpu.acon_c_backward(torch.ones_like(t), t, *p)[0]
                assert dx is not None
                assert math.isnan(expected) or not dx.isnan().any(), (p1, p2, beta, x)


def test_sums_hold_no_nan_where_squares_overflow(isa: str) -> None:
    """0 * inf would be one: p1 = p2 with x^2 beyond the largest number, and infinite x."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for width in (1, 17, 49, 3000):
            for layout in (0, 1):
                for x in (1e30, -3e38, math.inf, -math.inf):
                    for p in ((0.5, 0.5, 1.0), (1.0, 0.0, 1.0), (1.0, 0.25, 0.0), (0.3, -0.4, -2.0)):
                        t = torch.full((1, width, 2) if layout else (1, 2, width), x, dtype=dtype)
                        grad = torch.ones_like(t)
                        grad.view(-1)[::2] = -2
                        parts = [torch.tensor([v, v]) for v in p]
                        got = cpu.acon_c_backward(grad, t, *parts, channel_dim=2 if layout else 1)
                        assert not any(g is None or g.isnan().any() for g in got), (dtype, width, x, p)
                        assert p[0] != p[1] or (got[3] == 0).all()
    for shape, channel_dim in (((1, 2, 2**20), 1), ((1, 2**20, 2), 2)):  # in several parts
        t = torch.full(shape, math.inf)
        parts = [torch.full((2,), v) for v in (0.5, 0.5, 1.0)]
        got = cpu.acon_c_backward(torch.ones_like(t), t, *parts, channel_dim=channel_dim)
        assert got[3] is not None
        assert (got[3] == 0).all()
    nan = torch.full((1, 2, 20), math.nan)
    for g in cpu.acon_c_backward(torch.ones_like(nan), nan, *(torch.ones(2) for _ in range(3))):
        assert g is not None
        assert g.isnan().all()


def test_half_types_round_once_to_nearest_even(isa: str) -> None:
    """p1 = p2 = 1 is the identity: every half number must come back, and float's slope 1 must not move it.

    Only the hardware's rounding to bfloat16 makes its subnormal results 0, as csrc/README.md says.
    """
    for dtype in (torch.bfloat16, torch.float16):
        flushed = dtype is torch.bfloat16 and isa == "avx512_bf16"
        x = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 1, -1)
        for slope in (1.0, 1.1):
            y = cpu.acon_c_forward(x, torch.tensor([slope]), torch.tensor([slope]), torch.ones(1))
            expected = x.float() * torch.tensor(slope)
            if flushed:
                expected[expected.abs() < torch.finfo(torch.float32).smallest_normal] = 0
            torch.testing.assert_close(y, expected.to(dtype), rtol=0, atol=0, equal_nan=True)
