"""More than 2^31 elements: every index past 32 bits is right, forward and backward."""

import os

import pytest
import torch
from torch import nn

from aconite.kernels import native_library
from aconite.nn import AconC, BatchNormAconC2d

SHAPE = (2, 4, 2**14, 2**14 + 1)  # 2^31 + 2^17
PLACES = (0, 2**29, 2**30 - 500, 2**31 - 500, 2**31 + 2**17 - 1000)
LENGTH = 1000


def _memory():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _marked(layout, seed):
    """Zeros but for a thousand numbers at each place, and where in the shape these are."""
    flat = torch.zeros(2**31 + 2**17, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(seed)
    for place in PLACES:
        flat[place : place + LENGTH] = torch.randn(LENGTH, generator=generator).to(torch.bfloat16)
    if layout == "channels_last":
        n, c, h, w = SHAPE
        return flat, flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat, flat.view(SHAPE)


def _channels(layout):
    _, c, h, w = SHAPE
    places = torch.cat([torch.arange(place, place + LENGTH) for place in PLACES])
    return places, (places % c if layout == "channels_last" else places // (h * w) % c)


@pytest.mark.slow
@pytest.mark.skipif(native_library().isa is None, reason="no native library")
@pytest.mark.skipif(_memory() < 19e9, reason="needs 19 GB of free memory")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("fused", [False, True])
def test_more_than_two_to_the_31(layout, fused):
    torch.set_num_threads(2)
    torch.manual_seed(1)
    layer = BatchNormAconC2d(SHAPE[1]).eval() if fused else AconC(SHAPE[1])
    if fused:
        layer.running_mean.normal_()
        nn.init.normal_(layer.bias)
    marked, x = _marked(layout, 2)
    places, channels = _channels(layout)
    x.requires_grad_()
    y = layer(x)
    assert y.stride() == x.stride()
    seen = torch.as_strided(y.detach(), (y.numel(),), (1,))[places].double()
    inner = marked[places].double().requires_grad_()
    slopes = [p.detach().double().requires_grad_() for p in (layer.p1, layer.p2, layer.beta)]
    p1, p2, beta = (p[channels] for p in slopes)
    z = inner
    if fused:
        scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
        z = (inner - layer.running_mean.double()[channels]) * scale[channels] + layer.bias.double()[channels]
    expected = (p1 - p2) * z * torch.sigmoid(beta * (p1 - p2) * z) + p2 * z
    torch.testing.assert_close(seen, expected.detach(), rtol=2**-8, atol=1e-3)
    del seen
    grad_marked, grad = _marked(layout, 3)
    y.backward(grad)
    del y
    expected.backward(grad_marked[places].double())
    found = torch.as_strided(x.grad, (x.numel(),), (1,))
    torch.testing.assert_close(found[places].double(), inner.grad, rtol=2**-7, atol=1e-2)
    assert found[2**29 + 2 * LENGTH : 2**29 + 10**6].abs().max() == 0  # where no gradient came in
    for parameter, slope in zip((layer.p1, layer.p2, layer.beta), slopes, strict=True):
        torch.testing.assert_close(parameter.grad.double(), slope.grad, rtol=1e-4, atol=1e-3)
