"""The equations: limits, derivative bounds, gradients of first and second order, extremes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from aconite import reference
from aconite.errors import SettingsError

INF = math.inf
MAX = torch.finfo(torch.float32).max
GATES = ("sigmoid", "hard")
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

moderate = st.floats(-8, 8, allow_subnormal=False)
slope = st.floats(-1, 1, width=32)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
anything = st.floats(allow_nan=False, width=32)


def leaves(*values, dtype=torch.float32):
    return [torch.tensor(v, dtype=dtype, requires_grad=True) for v in values]


def value_and_gradients(function, *values):
    inputs = leaves(*values)
    y = function(*inputs)
    return y.detach(), torch.autograd.grad(y.sum(), inputs)


def published_acon_c(x, p1, p2, beta):
    return (p1 - p2) * x * torch.sigmoid(beta * (p1 - p2) * x) + p2 * x


# ---- smooth maximum -------------------------------------------------------------------------------------------------


@quick
@given(st.lists(moderate, min_size=1, max_size=6), moderate)
def test_smooth_maximum_is_the_printed_formula(values, beta):
    x = torch.tensor(values, dtype=torch.float64)
    expected = (x * (beta * x).exp()).sum() / (beta * x).exp().sum()
    torch.testing.assert_close(reference.smooth_maximum(x, beta), expected, rtol=1e-10, atol=1e-12)


@quick
@given(st.lists(finite, min_size=1, max_size=6))
def test_limits_of_the_smooth_maximum(values):
    x = torch.tensor(values)
    assert reference.smooth_maximum(x, INF) == x.max()
    assert reference.smooth_maximum(x, -INF) == x.min()
    mean = x.double().mean().float()
    torch.testing.assert_close(
        reference.smooth_maximum(x, 0.0), mean, rtol=1e-6, atol=1e-44 + 1e-6 * float(x.abs().max())
    )


@quick
@given(st.lists(finite, min_size=1, max_size=6), anything)
def test_smooth_maximum_lies_between_least_and_greatest(values, beta):
    x = torch.tensor(values)
    y = reference.smooth_maximum(x, beta).double()
    slack = 1e-6 * x.double().abs().max()
    assert x.double().min() - slack <= y <= x.double().max() + slack
    assert y.isfinite()


@quick
@given(st.lists(moderate, min_size=2, max_size=5), moderate, st.floats(0, 5))
def test_smooth_maximum_grows_with_beta(values, beta, step):
    x = torch.tensor(values, dtype=torch.float64)
    assert reference.smooth_maximum(x, beta + step) >= reference.smooth_maximum(x, beta) - 1e-12


@pytest.mark.parametrize("product", [1e4, 1e6, -1e6])
def test_large_products_give_no_nan(product):
    x = torch.linspace(-1e3, 1e3, 41)
    y, (dx, dbeta) = value_and_gradients(reference.smooth_maximum, x.tolist(), product / 1e3)
    assert y == (1e3 if product > 0 else -1e3)
    assert dx.isfinite().all()
    assert dx.sum() == pytest.approx(1, abs=1e-5)
    assert dbeta.isfinite()


@quick
@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=5), anything)
def test_gradient_of_the_smooth_maximum_has_no_nan(values, beta):
    y, gradients = value_and_gradients(reference.smooth_maximum, values, beta)
    assert not y.isnan()
    assert not any(g.isnan().any() for g in gradients)


@pytest.mark.parametrize("beta", [0.0, 1e-45, 1e-38, 1e-37, 3e-37, 1.0, 1e6, MAX, INF])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "pair", [(MAX, -MAX), (MAX, MAX), (MAX, 0.0), (-MAX, 1.0), (INF, 1.0), (-INF, MAX), (INF, INF)]
)
def test_gradient_of_two_extreme_values_has_no_nan(pair, sign, beta):
    y, gradients = value_and_gradients(reference.smooth_maximum, pair, sign * beta)
    assert not y.isnan()
    assert not any(g.isnan().any() for g in gradients)


@pytest.mark.parametrize("count", [3, 10, 19, 20, 25])
def test_mean_of_the_largest_number_does_not_overflow(count):
    assert float(reference.smooth_maximum(torch.full((count,), MAX), 0.0)) == pytest.approx(MAX, rel=1e-6)
    assert float(reference.smooth_maximum(torch.full((count,), -MAX), 2.0)) == pytest.approx(-MAX, rel=1e-6)


@pytest.mark.parametrize("beta", [1e-38, 1.0, INF])
def test_infinite_values_give_their_limit(beta):
    x = torch.tensor([INF, -INF, 3.0])
    assert reference.smooth_maximum(x, beta) == INF
    assert reference.smooth_maximum(x, -beta) == -INF
    assert reference.acon(x[0], x[1], beta) == INF
    assert reference.acon(x[0], x[1], -beta) == -INF


@pytest.mark.parametrize(("beta", "extreme"), [(INF, torch.amax), (-INF, torch.amin)])
def test_infinite_beta_has_the_gradient_of_amax(beta, extreme):
    x = torch.tensor([[1.0, 3.0, 3.0], [2.0, -1.0, -1.0]], requires_grad=True)
    (ours,) = torch.autograd.grad(reference.smooth_maximum(x, beta, dim=1).sum(), x)
    (theirs,) = torch.autograd.grad(extreme(x, 1).sum(), x)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 3, 3)])
def test_beta_broadcasts_against_the_result(dim, shape):
    x, result = torch.randn(shape), torch.randn(shape).sum(dim)
    for beta in (
        torch.randn(result.shape),
        torch.randn(result.shape[-1]),
        torch.randn(result.shape[0], 1),
        torch.randn(()),
    ):
        y = reference.smooth_maximum(x, beta, dim)
        rows = x.movedim(dim, 0)
        weights = torch.softmax(beta * rows, 0)
        torch.testing.assert_close(y, (weights * rows).sum(0))


def test_mixed_finite_and_infinite_beta():
    x = torch.randn(5, 3)
    y = reference.smooth_maximum(x, torch.tensor([INF, -INF, 0.0]))
    torch.testing.assert_close(y, torch.stack([x[:, 0].max(), x[:, 1].min(), x[:, 2].mean()]))


def test_a_sequence_broadcasts():
    y = reference.smooth_maximum([torch.tensor(1.0), torch.tensor([3.0, 5.0])], 0.0, dim=-1)
    assert y.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("values", "dim"), [([], 0), (torch.empty(0, 3), 0), (torch.tensor(1.0), 0), (torch.ones(2, 2), 2)]
)
def test_no_values_is_an_error(values, dim):
    with pytest.raises(SettingsError, match=r"smooth_maximum|dim="):
        reference.smooth_maximum(values, 1.0, dim)


# ---- ACON -----------------------------------------------------------------------------------------------------------


@quick
@given(moderate, moderate, moderate)
def test_acon_is_the_smooth_maximum_of_two(a, b, beta):
    a, b = torch.tensor([a, b], dtype=torch.float64)
    expected = reference.smooth_maximum([a, b], beta)
    torch.testing.assert_close(reference.acon(a, b, beta), expected, rtol=1e-10, atol=1e-12)


@quick
@given(moderate, moderate, moderate, moderate)
def test_acon_c_is_the_printed_formula(x, p1, p2, beta):
    x, p1, p2, beta = torch.tensor([x, p1, p2, beta], dtype=torch.float64)
    expected = published_acon_c(x, p1, p2, beta)
    close = {"rtol": 1e-10, "atol": 1e-11}
    torch.testing.assert_close(reference.acon_c(x, p1, p2, beta), expected, **close)
    torch.testing.assert_close(reference.acon(p1 * x, p2 * x, beta), expected, **close)
    torch.testing.assert_close(reference.acon_b(x, p2, beta), published_acon_c(x, 1.0, p2, beta), **close)
    torch.testing.assert_close(reference.acon_a(x, beta), x * torch.sigmoid(beta * x), **close)


@quick
@given(moderate, moderate, moderate)
def test_acon_c_limits_in_beta(x, p1, p2):
    t = torch.tensor(x, dtype=torch.float64)
    torch.testing.assert_close(reference.acon_c(t, p1, p2, 0.0), (p1 + p2) / 2 * t)
    torch.testing.assert_close(reference.acon_c(t, p1, p2, INF), reference.maxout(t, p1, p2))
    torch.testing.assert_close(reference.acon_c(t, p1, p2, -INF), -reference.maxout(t, -p1, -p2))
    assert float(reference.maxout(t, p1, p2)) == max(p1 * x, p2 * x)


@quick
@given(moderate, moderate, moderate, st.floats(0.01, 1e3))
def test_distance_to_maxout(x, p1, p2, beta):
    t = torch.tensor(x, dtype=torch.float64)
    distance = reference.maxout(t, p1, p2) - reference.acon_c(t, p1, p2, beta)
    assert -1e-12 <= distance <= reference.DEVIATION / beta + 1e-12


@quick
@given(anything, slope, slope, anything, st.sampled_from(GATES))
def test_acon_c_gives_no_nan(x, p1, p2, beta, gate):
    y, gradients = value_and_gradients(lambda *a: reference.acon_c(*a, gate), x, p1, p2, beta)
    assert not y.isnan()
    assert not any(g.isnan() for g in gradients), gradients
    derivative, gradients = value_and_gradients(reference.acon_c_derivative, x, p1, p2, beta)
    assert not derivative.isnan()
    assert not any(g.isnan() for g in gradients), gradients


@quick
@given(anything, slope, slope, anything, st.sampled_from(GATES))
def test_closed_form_gradients_give_no_nan(x, p1, p2, beta, gate):
    one = torch.tensor(1.0)
    tensors = [torch.tensor(v) for v in (x, p1, p2, beta)]
    assert not any(g.isnan() for g in reference.acon_c_gradient(2 * one, *tensors, gate))
    a, b, beta = tensors[0], tensors[0] * tensors[1], tensors[3]
    if not (b.isnan() or (a == -b and a.isinf())):
        assert not any(g.isnan() for g in reference.acon_gradient(2 * one, a, b, beta, gate))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("x", [MAX, -MAX, 1e30, INF])
@pytest.mark.parametrize("beta", [0.0, 1.0, -1.0, INF])
def test_closed_form_gradients_at_the_edge(x, beta, gate):
    for p1, p2 in ((1.0, 0.0), (0.0, 0.0), (1.0, -1.0), (0.5, 0.5)):
        tensors = [torch.tensor(v) for v in (3.0, x, p1, p2, beta)]
        assert not any(g.isnan() for g in reference.acon_c_gradient(*tensors, gate)), (p1, p2)


@quick
@given(anything, anything, anything, st.sampled_from(GATES))
def test_acon_gives_no_nan(a, b, beta, gate):
    if math.isinf(a) and a == -b and beta == 0:
        return  # the one sum without a value
    y, gradients = value_and_gradients(lambda *t: reference.acon(*t, gate), a, b, beta)
    assert not y.isnan()
    assert not any(g.isnan() for g in gradients), gradients


@quick
@given(anything, slope, slope)
def test_maxout_gives_no_nan(x, p1, p2):
    y, gradients = value_and_gradients(reference.maxout, x, p1, p2)
    assert not y.isnan()
    assert not any(g.isnan() for g in gradients)


@pytest.mark.parametrize("beta", [1e-38, 1.0, 50.0, INF])
@pytest.mark.parametrize(("p1", "p2"), [(1.0, 0.0), (1.2, -0.8), (0.01, -1.0), (0.5, 0.5), (0.0, 1.0), (0.0, 0.0)])
def test_infinite_input_gives_the_limit(p1, p2, beta):
    def times(slope, x):
        return 0.0 if slope == 0 else slope * x

    for x in (INF, -INF):
        arm = p1 if (p1 - p2) * x > 0 else p2
        y, (dx, *_) = value_and_gradients(lambda t, p1=p1, p2=p2: reference.acon_c(t, p1, p2, beta), x)
        assert y == times(arm, x)
        assert dx == arm
        assert reference.acon_c_derivative(torch.tensor(x), p1, p2, beta) == pytest.approx(arm)
        assert reference.maxout(torch.tensor(x), p1, p2) == max(times(p1, x), times(p2, x))


@pytest.mark.parametrize("position", range(4))
def test_nan_stays_nan(position):
    values = [1.0, 1.2, -0.8, 1.0]
    values[position] = math.nan
    tensors = [torch.tensor(v) for v in values]
    assert reference.acon_c(*tensors).isnan()
    assert reference.acon_c_derivative(*tensors).isnan()
    if position < 3:
        assert reference.maxout(*tensors[:3]).isnan()
        assert reference.acon(tensors[0], tensors[1], tensors[2]).isnan()
        assert reference.smooth_maximum(torch.stack(tensors[:2]), tensors[2]).isnan()


def test_differences_of_extreme_slopes_do_not_overflow():
    y, gradients = value_and_gradients(reference.acon_c, 1.0, 3e38, -3e38, 0.0)
    assert y == 0
    assert not any(g.isnan() for g in gradients)
    assert not reference.acon_c_derivative(torch.tensor(1e3), 3e38, -3e38).isnan()


# ---- derivative and its bounds --------------------------------------------------------------------------------------


def test_constants():
    root = 2.39935728
    y = torch.tensor(root, dtype=torch.float64)
    assert float((y - 2) * y.exp()) == pytest.approx(root + 2, rel=1e-7)
    assert float(torch.sigmoid(y) + y * torch.sigmoid(y) * torch.sigmoid(-y)) - 1 == pytest.approx(
        reference.BOUND, abs=1e-12
    )
    assert abs(reference.BOUND - 0.0998) < 5e-5
    u = torch.linspace(0, 10, 1_000_001, dtype=torch.float64)
    assert float((u * torch.sigmoid(-u)).max()) == pytest.approx(reference.DEVIATION, abs=1e-11)
    assert reference.DEVIATION * math.exp(reference.DEVIATION) == pytest.approx(1 / math.e)


@quick
@given(moderate, moderate, moderate, st.floats(-100, 100))
def test_derivative_lies_within_its_bounds(p1, p2, beta, x):
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    (slope_at_x,) = torch.autograd.grad(reference.acon_c(x, p1, p2, beta), x)
    torch.testing.assert_close(slope_at_x, reference.acon_c_derivative(x, p1, p2, beta).detach(), rtol=1e-9, atol=1e-11)
    low, high = reference.acon_c_bounds(torch.tensor(p1, dtype=torch.float64), p2)
    assert low - 1e-9 <= slope_at_x <= high + 1e-9


@pytest.mark.parametrize(("p1", "p2"), [(1.0, 0.0), (1.2, -0.1), (0.8, 0.1), (-0.5, 1.5)])
@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0, -3.0])
def test_bounds_are_reached(p1, p2, beta):
    low, high = reference.acon_c_bounds(torch.tensor(p1, dtype=torch.float64), torch.tensor(p2, dtype=torch.float64))
    assert float(high) == pytest.approx(1.0998 * max(p1, p2) - 0.0998 * min(p1, p2), abs=2e-4)
    assert float(low) == pytest.approx(1.0998 * min(p1, p2) - 0.0998 * max(p1, p2), abs=2e-4)
    z = torch.tensor([2.39935728, -2.39935728], dtype=torch.float64)
    slopes = reference.acon_c_derivative(z / (beta * (p1 - p2)), p1, p2, beta)
    assert float(slopes.max()) == pytest.approx(float(high), abs=1e-9)
    assert float(slopes.min()) == pytest.approx(float(low), abs=1e-9)


def test_bounds_take_numbers_and_half_types():
    assert [round(float(b), 4) for b in reference.acon_c_bounds(1.0, 0.0)] == [-0.0998, 1.0998]
    low, high = reference.acon_c_bounds(
        torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([0.0], dtype=torch.bfloat16)
    )
    assert low.dtype == high.dtype == torch.bfloat16


# ---- gradients ------------------------------------------------------------------------------------------------------


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def away_from_kinks(x, p1, p2, beta):
    """The hard gate's kinks are at |z| = 3; numerical differences must not step over them."""
    z = (beta * (p1 - p2) * x).detach()
    return bool(((z.abs() - 3).abs() > 0.05).all())


def acon_c_inputs():
    while True:
        inputs = double(2, 3, 4), double(3, 1), double(2, 1, 1), double(2, 3, 4)
        if away_from_kinks(*inputs):
            return inputs


CASES = {
    "smooth_maximum": lambda: (lambda v, b: reference.smooth_maximum(v, b, 1), (double(2, 5, 3), double(3))),
    "acon": lambda: (reference.acon, (double(2, 3), double(2, 3), double(3))),
    "acon_a": lambda: (reference.acon_a, (double(2, 3), double(3))),
    "acon_b": lambda: (reference.acon_b, (double(2, 3), double(3), double(2, 1))),
    "acon_c": lambda: (reference.acon_c, acon_c_inputs()),
    "acon_c hard": lambda: (lambda *a: reference.acon_c(*a, "hard"), acon_c_inputs()),
    "acon_c_derivative": lambda: (reference.acon_c_derivative, acon_c_inputs()),
    "maxout": lambda: (reference.maxout, (double(2, 3), double(3), double(3))),
    "meta_acon_c": lambda: (
        reference.meta_acon_c,
        (double(2, 3, 4), double(3, 1), double(3, 1), double(2, 3), double(2), double(3, 2), double(3)),
    ),
    "meta_acon_c hard": lambda: (
        lambda *a: reference.meta_acon_c(*a, None, 1.5, "hard"),
        (double(2, 3, 4), double(3, 1), double(3, 1), double(2, 3), double(2), double(3, 2)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradcheck(name):
    torch.manual_seed(1)
    function, inputs = CASES[name]()
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("gate", GATES)
def test_closed_form_is_what_autograd_finds(gate):
    torch.manual_seed(2)
    x, p1, p2, beta = acon_c_inputs()
    grad = torch.randn(2, 3, 4, dtype=torch.float64)
    found = torch.autograd.grad(reference.acon_c(x, p1, p2, beta, gate), (x, p1, p2, beta), grad)
    torch.testing.assert_close(reference.acon_c_gradient(grad, x, p1, p2, beta, gate), found)
    a, b, beta = double(2, 3), double(2, 3), double(3)
    grad = torch.randn(2, 3, dtype=torch.float64)
    found = torch.autograd.grad(reference.acon(a, b, beta, gate), (a, b, beta), grad)
    torch.testing.assert_close(reference.acon_gradient(grad, a, b, beta, gate), found)


def test_float32_is_near_float64():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(4000) * scale for scale in (1e-3, 1.0, 30.0, 3e3)])
    p1, p2, beta = torch.randn(x.numel()), torch.randn(x.numel()), torch.randn(x.numel())
    single = [t.clone().requires_grad_() for t in (x, p1, p2, beta)]
    wide = [t.double().requires_grad_() for t in (x, p1, p2, beta)]
    y, truth = reference.acon_c(*single), published_acon_c(*wide)
    ulp = torch.finfo(torch.float32).eps
    assert ((y.double() - truth).abs() <= 4 * ulp * ((p1 * x).abs() + (p2 * x).abs()).double()).all()
    dx, true_dx = torch.autograd.grad(y.sum(), single)[0], torch.autograd.grad(truth.sum(), wide)[0]
    assert ((dx - true_dx).abs() <= 1e-5 * torch.maximum(p1.abs(), p2.abs())).all()


def test_numbers_keep_their_digits_in_float64():
    x = torch.tensor([0.3], dtype=torch.float64)
    p1, p2, beta = (torch.tensor(v, dtype=torch.float64) for v in (0.1, -0.7, 1.3))
    assert torch.equal(reference.acon_c(x, 0.1, -0.7, 1.3), reference.acon_c(x, p1, p2, beta))
    assert torch.equal(
        reference.smooth_maximum(x.expand(3) * torch.arange(3), 1.3),
        reference.smooth_maximum(x * torch.arange(3), beta),
    )


def test_hard_gate_is_piecewise_linear():
    z = torch.linspace(-6, 6, 49)
    assert torch.allclose(reference.gate_function("hard")(z), torch.nn.functional.relu6(z + 3) / 6)
    torch.testing.assert_close(reference.acon_a(z, gate="hard"), torch.nn.functional.hardswish(z))
    with pytest.raises(SettingsError, match="gate='soft' is not known; write gate='sigmoid' or gate='hard'"):
        reference.gate_function("soft")
