"""The fused norm's operators: opcheck, first and second derivatives."""

import pytest
import torch
from torch.library import opcheck

from aconite import kernels
from aconite.kernels import Generator
from aconite.kernels.norm import Norm
from aconite.ops.norm import batch_norm_acon_c, batch_norm_meta_acon_c, norm_kernel_serves

pytestmark = pytest.mark.skipif(not kernels.native_library().available, reason="no native library")

LAYOUTS = {
    "images": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: torch.cat([x, x], 3)[:, :, :, ::2],
    "channels_last sliced": lambda x: torch.cat([x, x], 3).to(memory_format=torch.channels_last)[:, :, :, ::2],
    "permuted": lambda x: x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
}


def drawn(*shapes, dtype=torch.float32, grad=True):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_(grad) for s in shapes]


def tensors(dtype=torch.float32, c=5):
    x, weight, bias, p1, p2, beta = drawn((4, c, 2, 7), *[c] * 5, dtype=dtype)
    return x, weight, bias, p1, p2, beta


def net(c=5, h=3, dtype=torch.float32):
    return drawn((h, c), (c, h), h, c, h, h, c, c, dtype=dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["acon_c", "relu", "identity"])
@pytest.mark.parametrize("batch", [True, False])
def test_opcheck(layout, activation, batch):
    x, weight, bias, p1, _, beta = tensors()
    x = LAYOUTS[layout](x.detach()).requires_grad_()
    running = (None, None) if batch else (torch.zeros(5), torch.ones(5))
    slopes = (p1, None, beta) if activation == "acon_c" else (None, None, None)
    opcheck(torch.ops.aconite.batch_norm_acon_c.default, (x, weight, bias, *slopes, *running, 1e-5, activation, "hard"))
    y, statistics = torch.ops.aconite.batch_norm_acon_c(x, weight, bias, *slopes, *running, 1e-5, activation, "hard")
    assert y.shape == x.shape
    rest = (x, weight, bias, *slopes, 1e-5, activation, "hard")
    opcheck(torch.ops.aconite.batch_norm_acon_c_backward.default, (*drawn(x.shape), statistics, batch, *rest))


@pytest.mark.parametrize("layout", ["images", "channels_last", "sliced", "channels_last sliced"])
@pytest.mark.parametrize("kind", ["batch", "none", "running"])
def test_opcheck_meta(layout, kind):
    def arguments(dtype):
        x, weight, bias, p1, p2, _ = tensors(dtype)
        x = LAYOUTS[layout](x.detach()).requires_grad_()
        weights = net(dtype=dtype) if kind != "none" else [*net(dtype=dtype)[:4], *[None] * 4]
        inner = [torch.zeros(3), torch.ones(3), torch.zeros(5), torch.ones(5)] if kind == "running" else [None] * 4
        inner = [t if t is None else t.to(dtype) for t in inner]
        return (x, weight, bias, p1, p2, *weights), inner, (kind, 1e-5, 1e-5, 1e-5, 1.5, "sigmoid")

    learnt, inner, options = arguments(torch.float32)
    opcheck(torch.ops.aconite.batch_norm_meta_acon_c.default, (*learnt, None, None, *inner, *options))
    # in float64: second derivatives through batch statistics of few values amplify float32's rounding
    learnt, inner, options = arguments(torch.float64)
    _, *saved = torch.ops.aconite.batch_norm_meta_acon_c(*learnt, None, None, *inner, *options)
    grad = drawn(learnt[0].shape, dtype=torch.float64)
    opcheck(torch.ops.aconite.batch_norm_meta_acon_c_backward.default, (*grad, *saved, True, *learnt, *inner, *options))


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("activation", ["acon_c", "identity"])
def test_first_and_second_derivatives(batch, activation):
    *inputs, p1, p2, beta = tensors(torch.float64)
    running = (None, None) if batch else (torch.zeros(5).double(), torch.ones(5).double())

    def run(x, weight, bias, *slopes):
        given = Norm(weight, bias, *running)
        return batch_norm_acon_c(x, given, *slopes, activation=activation)[0]

    arguments = (*inputs, p1, p2, beta) if activation == "acon_c" else tuple(inputs)
    assert torch.autograd.gradcheck(run, arguments)
    assert torch.autograd.gradgradcheck(run, arguments)


@pytest.mark.parametrize("kind", ["batch", "none"])
def test_meta_first_and_second_derivatives(kind):
    x, weight, bias, p1, p2, _ = tensors(torch.float64)
    weights = net(dtype=torch.float64) if kind == "batch" else net(dtype=torch.float64)[:4]

    def run(x, weight, bias, p1, p2, *weights):
        given = Generator(*weights, norm=kind, scale=1.5)
        return batch_norm_meta_acon_c(x, Norm(weight, bias), p1, p2, given)[0]

    assert torch.autograd.gradcheck(run, (x, weight, bias, p1, p2, *weights), atol=1e-4)
    assert torch.autograd.gradgradcheck(run, (x, weight, bias, p1, p2, *weights), atol=1e-3)


def test_saves_its_input_and_vectors():
    x, weight, bias, p1, p2, beta = tensors()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y, _ = batch_norm_acon_c(x, Norm(weight, bias), p1, p2, beta)
    assert [t.data_ptr() for t in kept if t.numel() > 100] == [x.data_ptr()]
    y.sum().backward()


def test_running_statistics_may_move_before_the_backward():
    x, weight, bias, p1, p2, beta = tensors()
    mean, var = torch.zeros(5), torch.ones(5)
    y, _ = batch_norm_acon_c(x, Norm(weight, bias, mean, var), p1, p2, beta)
    expected = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    mean.add_(1)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], expected)


def test_not_under_transforms():
    x = tensors()[0].detach()
    assert norm_kernel_serves(x)
    assert not norm_kernel_serves(x[:0])
    seen = []
    torch.func.vmap(lambda t: seen.append(norm_kernel_serves(t)) or t)(x)
    assert seen == [False]
