"""The smooth maximum of two tensors against float64."""

from __future__ import annotations

import math

import pytest
import torch
from native_truth import ULP, broadcast, gates

from aconite.kernels import cpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("gate", ["sigmoid", "hard"])
def test_bounds_hold(isa: str, dtype: torch.dtype, gate: str) -> None:
    torch.manual_seed(0)
    for shape in [(2, 24, 14, 14), (3, 17, 7, 7), (4, 5, 3), (6, 40), (3, 3, 3, 3), (1, 600, 5, 5)]:
        for layout in (torch.contiguous_format, torch.channels_last):
            if layout is torch.channels_last and len(shape) != 4:
                continue
            for parameter in ((shape[1],), (), shape[:2]):
                a, b, grad = ((torch.randn(shape) * 3).to(dtype).to(memory_format=layout) for _ in range(3))
                beta = torch.randn(parameter, dtype=torch.float64 if dtype is torch.float64 else torch.float32)
                y = cpu.smooth_maximum_forward(a, b, beta, gate=gate)
                da, db, dbeta = cpu.smooth_maximum_backward(grad, a, b.contiguous(), beta, gate=gate)
                assert da is not None
                assert db is not None
                assert dbeta is not None
                wide = broadcast(beta, a, 1).double()
                d = a.double() - b.double()
                z = wide * d
                s, r, q = gates(z, gate == "hard")
                unit = ULP[dtype] * (1 if dtype in (torch.bfloat16, torch.float16) else 4)
                size = a.double().abs() + b.double().abs()
                least = 1e-6 if dtype is torch.float16 else 1e-30
                assert ((y.double() - (a.double() * s + b.double() * r)).abs() <= unit * size + least).all()
                bound = grad.double().abs() * (1e-5 + 2 * unit) + least
                if gate == "hard":  # on a kink itself either side's slope is right
                    bound = bound + ((z.abs() - 3).abs() < 1e-5) * grad.double().abs()
                assert ((da.double() - grad.double() * (s + z * q)).abs() <= bound).all()
                assert ((db.double() - grad.double() * (r - z * q)).abs() <= bound).all()
                terms = grad.double() * d * d * q
                error = (dbeta.double().reshape(wide.shape) - terms.sum_to_size(wide.shape)).abs()
                assert (error <= 1e-5 * terms.abs().sum_to_size(wide.shape) + 1e-30).all()


def test_limits(isa: str) -> None:
    inf = math.inf
    a = torch.tensor([inf, 5.0, inf, -inf, -inf, math.nan, 1.0]).view(1, 1, 7)
    b = torch.tensor([1.0, -inf, inf, -inf, 2.0, 1.0, math.nan]).view(1, 1, 7)
    y = cpu.smooth_maximum_forward(a, b, torch.ones(1)).view(-1)
    assert y[:5].tolist() == [inf, 5.0, inf, -inf, 2.0]
    assert y[5:].isnan().all()
    y = cpu.smooth_maximum_forward(a, b, -torch.ones(1)).view(-1)
    assert y[:5].tolist() == [1.0, -inf, inf, -inf, -inf]
    assert y[5:].isnan().all()


def test_infinite_beta_has_the_gradient_of_amax(isa: str) -> None:
    a, b = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[2.0, 2.0, 2.0]]])
    for beta, up in ((math.inf, [0.0, 0.5, 1.0]), (-math.inf, [1.0, 0.5, 0.0])):
        da, db, dbeta = cpu.smooth_maximum_backward(torch.ones_like(a), a, b, torch.tensor([beta]))
        assert da is not None
        assert db is not None
        assert dbeta is not None
        assert da.view(-1).tolist() == up
        assert db.view(-1).tolist() == [1 - v for v in up]
        assert dbeta.item() == 0
