"""Tensors whose memory does not hold their values, and another default device, with and without the native kernel."""

import pytest
import torch

from aconite import functional
from aconite.kernels import dispatch
from aconite.ops import plain, runs_directly

pytestmark = pytest.mark.usefixtures("with_kernel")
DEFERRED = {"negated": torch._neg_view, "zero": lambda t: torch._efficientzerotensor(t.shape)}
SHAPE = (3, 5, 2, 7)


@pytest.fixture(params=DEFERRED)
def deferred(request):
    return DEFERRED[request.param]


def network():
    return torch.randn(4, 5), torch.randn(4), torch.randn(5, 4), torch.randn(5)


CALLS = {
    "acon": (functional.acon, (SHAPE, SHAPE, (5,))),
    "acon_a": (functional.acon_a, (SHAPE, (5,))),
    "acon_b": (functional.acon_b, (SHAPE, (5,), (5,))),
    "acon_c": (functional.acon_c, (SHAPE, (5,), (5,), (5,))),
    "acon_c of numbers": (lambda x: functional.acon_c(x, 1.5, -0.5, 2.0), (SHAPE,)),
    "acon_c per pixel": (functional.acon_c, (SHAPE, (5,), (5,), SHAPE)),
    "meta_acon_c": (functional.meta_acon_c, (SHAPE, (5,), (5,), (4, 5), (4,), (5, 4), (5,))),
}


def results(function, tensors, grad):
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = function(*leaves)
    with torch.no_grad():
        torch.testing.assert_close(function(*leaves), y.detach(), rtol=0, atol=0)
    return y, *torch.autograd.grad(y, leaves, grad)


@pytest.mark.parametrize("name", CALLS)
def test_a_deferred_tensor_counts_as_what_it_stands_for(name, deferred):
    function, shapes = CALLS[name]
    tensors, grad = [torch.randn(shape) for shape in shapes], torch.randn(SHAPE)
    for chosen in range(len(tensors) + 1):
        odd = [deferred(t) if i == chosen else t for i, t in enumerate((*tensors, grad))]
        solid = [t.clone() for t in odd]
        for _ in range(3):
            found = results(function, odd[:-1], odd[-1])
            expected = results(function, solid[:-1], solid[-1])
            for got, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("name", CALLS)
def test_results_lie_beside_x_whatever_the_default_device(name):
    function, shapes = CALLS[name]
    tensors, grad = [torch.randn(shape) for shape in shapes], torch.randn(SHAPE)
    expected = results(function, tensors, grad)
    dispatch._constant.cache_clear()
    torch.set_default_device("meta")
    try:
        found = results(function, tensors, grad)
    finally:
        torch.set_default_device(None)
        dispatch._constant.cache_clear()
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_only_tensors_in_the_cpus_memory_run_directly(deferred):
    x = torch.randn(3, 5)
    assert runs_directly(x)
    assert plain(x, None, torch.nn.Parameter(x))
    assert not runs_directly(deferred(x))
    assert not plain(x, None, deferred(x))
    assert not runs_directly(x.to("meta"))
    assert not runs_directly(x.to_sparse())


RETURNED = {
    "as it was": lambda t: t,
    "negated": lambda t: torch._neg_view(-t),
    "in another order": lambda t: t.clone(memory_format=torch.contiguous_format),
}


@pytest.mark.parametrize("returned", RETURNED)
@pytest.mark.parametrize("name", ["acon_c", "meta_acon_c"])
def test_an_input_is_taken_as_a_saved_tensor_hook_gives_it_back(name, returned):
    function, (_, *shapes) = CALLS[name]
    x = torch.randn(SHAPE).to(memory_format=torch.channels_last).requires_grad_()
    rest, grad = [torch.randn(shape) for shape in shapes], torch.randn_like(x)
    (expected,) = torch.autograd.grad(function(x, *rest), x, grad)
    give = RETURNED[returned]
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t, lambda t: give(t) if t.shape == SHAPE and t.is_floating_point() else t
    ):
        y = function(x, *rest)
    (found,) = torch.autograd.grad(y, x, grad)
    torch.testing.assert_close(found, expected)
