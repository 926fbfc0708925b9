"""Lazily negated tensors and zeros without memory: the kernels copy them before they take a pointer."""

import pytest
import torch
from torch.func import vmap

from aconite import kernels
from aconite.kernels import Generator, cpu, cpu_meta, in_memory, norm

DEFERRED = {"negated": torch._neg_view, "zero": lambda t: torch._efficientzerotensor(t.shape, dtype=t.dtype)}
SHAPE = (3, 5, 2, 7)
C, HIDDEN = SHAPE[1], 4


@pytest.fixture(params=DEFERRED)
def deferred(request):
    return DEFERRED[request.param]


def drawn(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype)


def agrees(function, *arguments, deferred):
    """The same results with each argument, and with all of them, deferred as with what they stand for."""
    for chosen in (*([i] for i in range(len(arguments))), range(len(arguments))):
        odd = [deferred(t) if i in chosen else t for i, t in enumerate(arguments)]
        solid = [t.clone() for t in odd]
        assert all(map(in_memory, solid))
        for got, expected in zip(function(*odd), function(*solid), strict=True):
            assert in_memory(got)
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)  # variances are negated, too


def test_a_clone_is_in_memory_and_the_views_that_torch_defers_are_not(deferred):
    t = drawn(3, 4)
    assert in_memory(t)
    assert in_memory(t[:, 1:])
    assert not in_memory(deferred(t))
    assert in_memory(deferred(t).clone())
    assert in_memory(torch.empty_like(deferred(t)))
    assert not in_memory(torch.conj(drawn(3, dtype=torch.complex64)).imag)


def test_ordinary_keys_are_those_of_dense_tensors_on_the_cpu_alone(deferred):
    def ordinary(t):
        return torch._C._dispatch_keys(t).raw_repr() in kernels.ORDINARY

    t = drawn(3, 4)
    with torch.inference_mode():
        made_in_inference = drawn(3, 4)
    for kind in (t, t.T[1:], t.bfloat16(), t.double().requires_grad_(), torch.nn.Parameter(t), made_in_inference):
        assert ordinary(kind)
    for other in (deferred(t), t.to("meta"), t.to_sparse(), torch.nested.nested_tensor([t], layout=torch.jagged)):
        assert not ordinary(other)
    wrapped = []
    vmap(lambda row: wrapped.append(ordinary(row)) or row)(t)
    assert wrapped == [False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_acon_c(deferred, dtype):
    x, grad = drawn(*SHAPE, dtype=dtype), drawn(*SHAPE, dtype=dtype)
    slopes = [drawn(C) for _ in range(3)]
    agrees(lambda *a: [cpu.acon_c_forward(*a)], x, *slopes, deferred=deferred)
    agrees(lambda *a: cpu.acon_c_backward(*a), grad, x, *slopes, deferred=deferred)
    agrees(lambda *a: [kernels.acon_c_forward(*a, 1, "sigmoid")[0]], x, *slopes, deferred=deferred)


def test_deferred_x_of_channels_last_comes_back_in_its_order():
    x = torch._neg_view(drawn(*SHAPE).to(memory_format=torch.channels_last))
    y = cpu.acon_c_forward(x, *[drawn(C) for _ in range(3)])
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_smooth_maximum(deferred):
    a, b, grad, beta = drawn(*SHAPE), drawn(*SHAPE), drawn(*SHAPE), drawn(C)
    agrees(lambda *t: [cpu.smooth_maximum_forward(*t)], a, b, beta, deferred=deferred)
    agrees(lambda *t: cpu.smooth_maximum_backward(*t), grad, a, b, beta, deferred=deferred)


def test_a_plan_kept_for_a_shape_does_not_serve_a_deferred_tensor_of_it(deferred):
    x, slopes = drawn(*SHAPE), [drawn(C) for _ in range(3)]
    for _ in range(3):
        cpu.acon_c_forward(x, *slopes)
        odd = deferred(x)
        torch.testing.assert_close(cpu.acon_c_forward(odd, *slopes), cpu.acon_c_forward(odd.clone(), *slopes))


def test_meta_acon_c(deferred):
    x, grad = drawn(*SHAPE), drawn(*SHAPE)
    tensors = (
        *(drawn(C), drawn(C), drawn(HIDDEN, C), drawn(C, HIDDEN), drawn(HIDDEN), drawn(C)),
        *(drawn(HIDDEN), drawn(HIDDEN), drawn(C), drawn(C)),
    )

    def forward(x, p1, p2, *weights):
        return kernels.meta_acon_c_forward(x, p1, p2, Generator(*weights, norm="batch"))

    def backward(grad, saved, x, p1, p2, *weights):
        return kernels.meta_acon_c_backward(grad, x, p1, p2, Generator(*weights, norm="batch"), saved)

    agrees(forward, x, *tensors, deferred=deferred)
    agrees(backward, grad, forward(x, *tensors)[1], x, *tensors, deferred=deferred)


@pytest.mark.parametrize("activation", ["acon_c", "relu"])
def test_batch_norm(deferred, activation):
    x, grad, vectors = drawn(*SHAPE), drawn(*SHAPE), [drawn(C) for _ in range(5)]

    def forward(x, weight, bias, *slopes):
        return norm.batch_norm_forward(x, norm.Norm(weight, bias), *slopes, activation=activation)

    def backward(grad, statistics, x, weight, bias, *slopes):
        given = norm.Norm(weight, bias)
        found = norm.batch_norm_backward(grad, x, given, *slopes, statistics, batch=True, activation=activation)
        return found if activation == "acon_c" else found[:3]

    agrees(forward, x, *vectors, deferred=deferred)
    agrees(backward, grad, forward(x, *vectors)[1], x, *vectors, deferred=deferred)


def test_batch_norm_and_meta_acon_c(deferred):
    x, grad = drawn(*SHAPE), drawn(*SHAPE)
    tensors = [drawn(C) for _ in range(4)] + [drawn(HIDDEN, C), drawn(C, HIDDEN)]

    def forward(x, weight, bias, p1, p2, *weights):
        return norm.batch_norm_meta_forward(x, norm.Norm(weight, bias), p1, p2, Generator(*weights))

    def backward(grad, statistics, saved, x, weight, bias, p1, p2, *weights):
        given, made = norm.Norm(weight, bias), Generator(*weights)
        found = norm.batch_norm_meta_backward(grad, x, given, p1, p2, made, statistics, saved, batch=True)
        return (*found[:7],)  # the generator has no biases and no norms

    agrees(forward, x, *tensors, deferred=deferred)
    agrees(backward, grad, *forward(x, *tensors)[1:], x, *tensors, deferred=deferred)


def test_running_statistics_that_are_not_in_memory_are_not_written_to(deferred):
    mean, var, steps = drawn(C), drawn(C).abs(), torch.tensor(0)
    assert norm.StatisticsUpdate.of(mean, var, steps, 0.1, 42) is not None
    assert norm.StatisticsUpdate.of(deferred(mean), var, steps, 0.1, 42) is None
    update = cpu_meta.MetaStatisticsUpdate.of
    rest = (mean, var), (steps, steps), (0.1, 0.1), 3
    assert update(torch.float32, (mean, mean), (var, var), *rest[1:]) is not None
    assert update(torch.float32, (mean, deferred(mean)), (var, var), *rest[1:]) is None
