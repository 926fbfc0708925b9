"""The door: channel dimensions, dtypes, layouts, transforms, and what a mistake reads like."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from aconite import functional, reference
from aconite.errors import SettingsError, ShapeError

GATES = ("sigmoid", "hard")
# Sizes equal on purpose (C == N, C == L): there a parameter on the wrong axis gives no error, only wrong numbers.
SHAPES = [(3, 3), (2, 5), (3, 3, 3), (2, 5, 3), (3, 3, 3, 3), (2, 5, 3, 4), (2, 5, 3, 4, 2)]
CHANNEL_DIMS = [(shape, dim) for shape in SHAPES for dim in range(-len(shape), len(shape))]


def spread(parameter, shape, dim):
    """Broadcast by hand, element by element."""
    dim %= len(shape)
    out = torch.empty(shape, dtype=parameter.dtype)
    for index in itertools.product(*map(range, shape)):
        key = {0: (), 1: (index[dim],), 2: (index[0], index[dim])}.get(parameter.ndim, index)
        out[index] = parameter[key]
    return out


@pytest.mark.parametrize(("shape", "dim"), CHANNEL_DIMS)
def test_parameters_lie_along_the_channels(shape, dim):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    channels = shape[dim]
    kinds = [(), (channels,), shape]
    if dim % len(shape) > 0 and len(shape) > 2:
        kinds.append((shape[0], channels))
    for kind in kinds:
        p1, p2, beta = (torch.randn(kind, dtype=torch.float64) for _ in range(3))
        wide = [spread(p, shape, dim) if p.ndim < len(shape) else p for p in (p1, p2, beta)]
        same = {"rtol": 1e-12, "atol": 1e-12}
        at = {"channel_dim": dim}
        torch.testing.assert_close(functional.acon_c(x, p1, p2, beta, **at), reference.acon_c(x, *wide), **same)
        torch.testing.assert_close(functional.acon_b(x, p2, beta, **at), reference.acon_b(x, *wide[1:]), **same)
        torch.testing.assert_close(functional.acon_a(x, beta, **at), reference.acon_a(x, wide[2]), **same)
        torch.testing.assert_close(functional.maxout(x, p1, p2, **at), reference.maxout(x, *wide[:2]), **same)
        torch.testing.assert_close(
            functional.acon_c_derivative(x, p1, p2, beta, **at), reference.acon_c_derivative(x, *wide), **same
        )
        torch.testing.assert_close(functional.acon(x, -2 * x, beta, **at), reference.acon(x, -2 * x, wide[2]), **same)


@pytest.mark.parametrize(("shape", "dim"), CHANNEL_DIMS)
def test_parameter_gradients_are_summed_along_the_right_axes(shape, dim):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    p1, p2, beta = (torch.randn(shape[dim], dtype=torch.float64, requires_grad=True) for _ in range(3))
    grad = torch.randn(shape, dtype=torch.float64)
    found = torch.autograd.grad(functional.acon_c(x, p1, p2, beta, channel_dim=dim), (p1, p2, beta), grad)
    wide = [spread(p.detach(), shape, dim).requires_grad_() for p in (p1, p2, beta)]
    others = [d for d in range(len(shape)) if d != dim % len(shape)]
    truth = torch.autograd.grad(reference.acon_c(x, *wide), wide, grad)
    for ours, theirs in zip(found, truth, strict=True):
        torch.testing.assert_close(ours, theirs.sum(others))


def test_numbers_and_ready_broadcasts():
    x = torch.randn(2, 5, 3, 4)
    expected = reference.acon_c(x, 1.2, -0.8, 0.5)
    torch.testing.assert_close(functional.acon_c(x, 1.2, -0.8, 0.5), expected)
    wide = x.double()
    digits = {"rtol": 1e-14, "atol": 1e-14}
    for given in ((1.2, -0.8, 0.3), (1.0, 0.1, 1.0), (0.1, 0.0, 0.7)):
        torch.testing.assert_close(functional.acon_c(wide, *given), reference.acon_c(wide, *given), **digits)
    torch.testing.assert_close(functional.acon(wide, -wide, 0.3), reference.acon(wide, -wide, 0.3), **digits)
    p1 = torch.randn(1, 5, 1, 1)
    torch.testing.assert_close(functional.acon_c(x, p1, 0.0), functional.acon_c(x, p1.flatten(), 0.0))


# ---- dtypes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("parameter_kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_result_has_the_input_dtype_and_gradients_their_own(kind, parameter_kind):
    x = torch.randn(4, 3, 5, dtype=kind, requires_grad=True)
    p1, p2, beta = (torch.randn(3).to(parameter_kind).requires_grad_() for _ in range(3))
    weights = [torch.randn(s).to(parameter_kind).requires_grad_() for s in ((2, 3), (2,), (3, 2), (3,))]
    for y, inputs in (
        (functional.acon_c(x, p1, p2, beta), (x, p1, p2, beta)),
        (functional.acon_a(x, beta), (x, beta)),
        (functional.acon_b(x, p2, beta), (x, p2, beta)),
        (functional.maxout(x, p1, p2), (x, p1, p2)),
        (functional.acon_c_derivative(x, p1, p2, beta), (x, p1, p2, beta)),
        (functional.acon(x, 2 * x, beta), (x, beta)),
        (functional.smooth_maximum(x, beta, 2), (x, beta)),
        (functional.meta_acon_c(x, p1, p2, *weights), (x, p1, p2, *weights)),
    ):
        assert y.dtype == kind
        for tensor, gradient in zip(inputs, torch.autograd.grad(y.sum(), inputs), strict=True):
            assert gradient.dtype == tensor.dtype
            assert gradient.shape == tensor.shape
            assert gradient.isfinite().all()


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_types_round_once(kind, gate):
    torch.manual_seed(0)
    x = (4 * torch.randn(64, 7, 9)).to(kind)
    p1, p2, beta = torch.randn(7), torch.randn(7), 3 * torch.randn(7)
    wide = [t.double() for t in (x, p1, p2, beta)]
    half_ulp = torch.finfo(kind).eps / 2
    for function, arguments in (
        (functional.acon_c, (p1, p2, beta)),
        (functional.acon_a, (beta,)),
        (functional.maxout, (p1, p2)),
    ):
        options = {} if function is functional.maxout else {"gate": gate}
        y = function(x, *arguments, **options).double()
        truth = function(wide[0], *(a.double() for a in arguments), **options)
        assert (
            (y - truth).abs() <= 1.01 * half_ulp * truth.abs() + 1e-6 * wide[0].abs() + torch.finfo(kind).tiny
        ).all()
    inputs = [x.clone().requires_grad_(), *(p.clone().requires_grad_() for p in (p1, p2, beta))]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    found = torch.autograd.grad(functional.acon_c(*inputs, gate=gate), inputs, torch.ones_like(x))
    truth = torch.autograd.grad(functional.acon_c(*wide, gate=gate), wide, torch.ones_like(wide[0]))
    assert ((found[0].double() - truth[0]).abs() <= half_ulp * truth[0].abs() + 2e-5).all()
    for ours, theirs in zip(found[1:], truth[1:], strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-3)


# ---- extremes through the door, where a kernel may run ---------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
def test_no_nan_at_extremes(gate):
    edge = [0.0, 1e-45, 1e-38, 1.0, 1e6, 1e30, 3.4e38, math.inf]
    values = torch.tensor([s * v for v in edge for s in (1, -1)])
    slopes = torch.tensor([0.0, 1.0, -1.0, 0.5, -0.001])
    x, p1, p2, beta = (
        t.flatten().clone().requires_grad_() for t in torch.meshgrid(values, slopes, slopes, values, indexing="ij")
    )
    y = functional.acon_c(x[None], p1, p2, beta, gate=gate)
    assert not y.isnan().any()
    for gradient in torch.autograd.grad(y, (x, p1, p2, beta), torch.ones_like(y)):
        assert not gradient.isnan().any()
    a, b, beta = (t.flatten().clone().requires_grad_() for t in torch.meshgrid(values, values, values, indexing="ij"))
    meaningful = ~((beta == 0) & a.isinf() & (a == -b))
    y = functional.acon(a[None], b[None], beta, gate=gate)
    assert not y[0, meaningful].isnan().any()
    for gradient in torch.autograd.grad(y, (a, b, beta), torch.ones_like(y)):
        assert not gradient[meaningful].isnan().any()


@pytest.mark.parametrize("beta", [1.0, 1e6, math.inf])
def test_limits_through_the_door(beta):
    x = torch.tensor([[math.inf, -math.inf, 1e6, -1e6, 0.0]])
    y = functional.acon_c(x, torch.full((5,), 1.5), torch.full((5,), 0.0), torch.full((5,), beta))
    assert y.tolist() == [[math.inf, 0.0, 1.5e6, 0.0, 0.0]]


def test_nan_stays_where_it_is():
    x = torch.tensor([[1.0, math.nan, -1.0]])
    y = functional.acon_c(x, torch.ones(3), torch.zeros(3), torch.ones(3))
    assert y.isnan().tolist() == [[False, True, False]]


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, -1, 0])
def test_gradcheck_through_the_door(dim):
    torch.manual_seed(5)
    shape = (2, 3, 4)

    def double(*s):
        return torch.randn(s, dtype=torch.float64, requires_grad=True)

    x, c = double(*shape), shape[dim]
    for function, inputs in (
        (lambda *a: functional.acon_c(*a, channel_dim=dim), (x, double(c), double(c), double(c))),
        (lambda *a: functional.acon_b(*a, channel_dim=dim), (x, double(c), double(c))),
        (lambda *a: functional.acon_a(*a, channel_dim=dim), (x, double(c))),
        (lambda *a: functional.acon_a(*a, channel_dim=dim), (x, double(*shape))),
        (lambda *a: functional.acon(*a, channel_dim=dim), (x, double(*shape), double(c))),
        (lambda *a: functional.acon_c_derivative(*a, channel_dim=dim), (x, double(c), double(c), double(c))),
        (lambda *a: functional.maxout(*a, channel_dim=dim), (x, double(c), double(c))),
        (lambda *a: functional.smooth_maximum(*a, dim), (x, double())),
        (
            lambda *a: functional.meta_acon_c(*a, channel_dim=dim, beta_scale=2.0),
            (x, double(c), double(c), double(2, c), double(2), double(c, 2), double(c)),
        ),
    ):
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=4)))
def test_any_subset_of_gradients(needs):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, 4), torch.randn(3), torch.randn(3), torch.randn(3)]
    inputs = [t.requires_grad_(n) for t, n in zip(tensors, needs, strict=True)]
    y = functional.acon_c(*inputs)
    assert y.requires_grad == any(needs)
    if any(needs):
        wanted = [t for t in inputs if t.requires_grad]
        wide = [t if t.ndim == 3 else t[:, None] for t in inputs]
        truth = torch.autograd.grad(reference.acon_c(*wide).sum(), wanted)
        for ours, theirs in zip(torch.autograd.grad(y.sum(), wanted), truth, strict=True):
            torch.testing.assert_close(ours, theirs)


# ---- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 5, 3, 4).contiguous(memory_format=torch.channels_last),
        torch.randn(2, 5, 3, 4, 2).contiguous(memory_format=torch.channels_last_3d),
        torch.randn(2, 5, 3, 4),
        torch.randn(2, 3, 4, 5).permute(0, 3, 1, 2),
        torch.randn(2, 10, 3, 4)[:, ::2],
        torch.randn(2, 5, 1, 1).expand(2, 5, 3, 4),
        torch.randn(0, 5, 3),
        torch.randn(2, 5, 0),
    ],
    ids=lambda x: f"{tuple(x.shape)}{x.stride()}",
)
def test_layouts(x):
    p1, p2, beta = (torch.randn(5, requires_grad=True) for _ in range(3))
    x = x.detach().requires_grad_()
    wide = [p.view(-1, *(1,) * (x.ndim - 2)) for p in (p1, p2, beta)]
    y, truth = functional.acon_c(x, p1, p2, beta), reference.acon_c(x, *wide)
    torch.testing.assert_close(y, truth)
    grad = torch.randn_like(truth)
    for ours, theirs in zip(
        torch.autograd.grad(y, (x, p1, p2, beta), grad),
        torch.autograd.grad(truth, (x, p1, p2, beta), grad),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    # A gradient of stride 0, as from .sum().
    y, truth = functional.acon_c(x, p1, p2, beta), reference.acon_c(x, *wide)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), (x, p1)), torch.autograd.grad(truth.sum(), (x, p1)))


@pytest.mark.parametrize(
    ("shape", "layout"), [((2, 5, 3, 4), torch.channels_last), ((2, 5, 3, 4, 2), torch.channels_last_3d)]
)
def test_channels_last_stays_channels_last(shape, layout):
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    for y in (
        functional.acon_c(x, torch.randn(5), torch.randn(5), torch.randn(5)),
        functional.acon_a(x, torch.randn(2, 5)),
        functional.acon(x, 2 * x),
        functional.maxout(x, torch.randn(5), 0.0),
        functional.acon_c_derivative(x, torch.randn(5), 0.0),
    ):
        assert y.stride() == x.stride()
        assert torch.autograd.grad(y.sum(), x)[0].stride() == x.stride()


# ---- Meta-ACON ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    ("shape", "dim"),
    [((2, 5), 1), ((3, 3, 3), 1), ((2, 4, 5), -1), ((2, 5, 3, 4), 1), ((2, 3, 4, 5), -1), ((5, 3, 4), -3)],
)
def test_meta_acon_c(shape, dim, gate):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    c = shape[dim]
    p1, p2, b2 = (torch.randn(c, dtype=torch.float64) for _ in range(3))
    w1, b1, w2 = (torch.randn(s, dtype=torch.float64) for s in ((2, c), (2,), (c, 2)))
    y = functional.meta_acon_c(x, p1, p2, w1, b1, w2, b2, beta_scale=1.5, channel_dim=dim, gate=gate)
    batch = (x[None] if dim % len(shape) == 0 else x).movedim(dim, -1)  # (N, …, C)
    sigma = reference.GATES[gate]
    mean = batch.reshape(batch.shape[0], -1, c).mean(1)
    beta = 1.5 * sigma((mean @ w1.T + b1) @ w2.T + b2)
    beta = beta.reshape(batch.shape[0], *(1,) * (batch.ndim - 2), c)
    truth = (p1 - p2) * batch * sigma(beta * (p1 - p2) * batch) + p2 * batch
    truth = truth.movedim(-1, dim)
    torch.testing.assert_close(y, truth[0] if dim % len(shape) == 0 else truth)
    kernels = functional.meta_acon_c(
        x, p1, p2, w1[:, :, None, None], b1, w2[:, :, None, None], b2, beta_scale=1.5, channel_dim=dim, gate=gate
    )
    assert torch.equal(kernels, y)


# ---- transforms -----------------------------------------------------------------------------------------------------


def test_compiles_to_one_graph():
    x = torch.randn(2, 3, 4)
    p = [torch.randn(3) for _ in range(3)]
    compiled = torch.compile(lambda x, *p: functional.acon_c(x, *p), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, *p), functional.acon_c(x, *p))


def test_torch_func():
    torch.manual_seed(0)
    x, p1, p2, beta = torch.randn(6, 3, 4), torch.randn(3), torch.randn(3), torch.randn(3)

    def loss(x, p1, p2, beta):
        return functional.acon_c(x, p1, p2, beta, channel_dim=-2).square().sum()

    leaves = [t.clone().requires_grad_() for t in (x, p1, p2, beta)]
    truth = torch.autograd.grad(loss(*leaves), leaves)
    torch.testing.assert_close(torch.func.grad(loss, (0, 1, 2, 3))(x, p1, p2, beta), truth)
    per_sample = torch.func.vmap(torch.func.grad(loss, (0, 1, 2, 3)), (0, None, None, None))(x, p1, p2, beta)
    torch.testing.assert_close(per_sample[0], truth[0])
    torch.testing.assert_close(per_sample[1].sum(0), truth[1], rtol=1e-4, atol=1e-4)
    tangent = torch.randn_like(x)
    _, forward = torch.func.jvp(lambda t: loss(t, p1, p2, beta), (x,), (tangent,))
    torch.testing.assert_close(forward, (truth[0] * tangent).sum(), rtol=1e-4, atol=1e-4)


# ---- mistakes -------------------------------------------------------------------------------------------------------

X = torch.zeros(2, 5, 3)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: functional.acon_c(X, torch.ones(3), 0.0),
            ShapeError,
            ["3 values", "(2, 5, 3)", "5 channels", "channel_dim=1"],
        ),
        (lambda: functional.acon_c(X, 1.0, 0.0, torch.ones(4)), ShapeError, ["4 values", "5 channels", "channel_dim"]),
        (lambda: functional.acon_c(X, torch.ones(2, 4), 0.0), ShapeError, ["(2, 4)", "(2, 5, 3)", "channel_dim=1"]),
        (
            lambda: functional.acon_c(torch.zeros(2, 5, 3, 4), torch.ones(5, 1, 1), 0.0),
            ShapeError,
            ["(5, 1, 1)", "(N, 5)"],
        ),
        (lambda: functional.acon_c(X, torch.ones(5), 0.0, channel_dim=3), ShapeError, ["channel_dim=3", "(2, 5, 3)"]),
        (
            lambda: functional.acon_c(torch.zeros(5), torch.ones(5), 0.0),
            ShapeError,
            ["channel_dim=1", "write channel_dim=-1"],
        ),
        (lambda: functional.acon_a([1.0]), SettingsError, ["list", "torch.as_tensor(x)"]),
        (lambda: functional.acon_a(torch.ones(2, 2, dtype=torch.int64)), SettingsError, ["torch.int64", "x.float()"]),
        (lambda: functional.acon_a(X, gate="soft"), SettingsError, ["gate='soft'", "gate='sigmoid' or gate='hard'"]),
        (lambda: functional.acon(X, X[:, :4]), ShapeError, ["(2, 5, 3)", "(2, 4, 3)"]),
        (lambda: functional.maxout(X, torch.ones(3), 0.0), ShapeError, ["p1", "3 values"]),
        (lambda: functional.acon_c_derivative(X, 1.0, torch.ones(3)), ShapeError, ["p2", "3 values"]),
        (lambda: functional.smooth_maximum([X, [1.0]], 1.0), SettingsError, ["values[1]", "list"]),
        (lambda: functional.smooth_maximum(X, 1.0, 3), SettingsError, ["dim=3", "(2, 5, 3)"]),
        (
            lambda: functional.meta_acon_c(X, 1.0, 0.0, torch.ones(2, 4), None, torch.ones(5, 2), None),
            ShapeError,
            ["(2, 4)", "5 channels", "(h, 5)"],
        ),
    ],
)
def test_mistakes_are_explained(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
