"""The composite kernels against the reference, whose differentiable form they replace."""

import pytest
import torch

from aconite import reference
from aconite.kernels import composite

INFINITY = float("inf")


def draw(dtype, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("gate", ["sigmoid", "hard"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_values_and_gradients(gate, dtype):
    x, b, grad = draw(dtype, 3, 5, 7), draw(dtype, 3, 5, 7).flip(0), draw(dtype, 3, 5, 7).flip(1)
    parameters = [draw(torch.promote_types(dtype, torch.float32), 5, 1).roll(i) for i in range(3)]
    tight = {"rtol": 1e-5, "atol": 1e-5} if dtype != torch.float64 else {}
    loose = {"rtol": 1e-2, "atol": 1e-2} if dtype in (torch.bfloat16, torch.float16) else tight
    torch.testing.assert_close(
        composite.acon_c_forward(x, *parameters, gate), reference.acon_c(x, *parameters, gate), **loose
    )
    found = composite.acon_c_backward(grad, x, *parameters, gate)
    dx, *rest = reference.acon_c_gradient(grad, x, *parameters, gate)
    torch.testing.assert_close(found[0], dx.to(dtype), **loose)
    torch.testing.assert_close(list(found[1:]), rest, **tight)
    beta = parameters[2]
    torch.testing.assert_close(composite.acon_forward(x, b, beta, gate), reference.acon(x, b, beta, gate), **loose)
    da, db, dbeta = reference.acon_gradient(grad, x, b, beta, gate)
    found = composite.acon_backward(grad, x, b, beta, gate)
    torch.testing.assert_close(list(found), [da.to(dtype), db.to(dtype), dbeta], **loose)


@pytest.mark.parametrize("slopes", [(1.0, 0.0), (0.0, 1.0), (1.2, -0.8), (0.5, 0.5)])
@pytest.mark.parametrize("beta", [0.0, 1.0, -2.0, 1e30, INFINITY, -INFINITY])
def test_limits_are_the_reference_s(slopes, beta):
    x = torch.tensor([-INFINITY, -1e38, -1e6, -1.0, 0.0, 1.0, 1e6, 1e38, INFINITY])
    torch.testing.assert_close(
        composite.acon_c_forward(x, *slopes, beta, "sigmoid"), reference.acon_c(x, *slopes, beta)
    )
    dx = composite.acon_c_backward(torch.ones_like(x), x, *slopes, beta, "sigmoid")[0]
    torch.testing.assert_close(dx, reference.acon_c_derivative(x, *slopes, beta))
    a, b = torch.meshgrid(x, x, indexing="ij")
    torch.testing.assert_close(
        composite.acon_forward(a, b, beta, "sigmoid"), reference.acon(a, b, beta), equal_nan=True
    )


def test_memory_order_is_the_first_tensor_s():
    x = draw(torch.float32, 2, 3, 4, 5).to(memory_format=torch.channels_last)
    other = x.contiguous()
    assert composite.acon_forward(x, other, 1.0, "sigmoid").stride() == x.stride()
    assert [g.stride() for g in composite.acon_backward(other, x, other, 1.0, "sigmoid")[:2]] == [
        x.stride(),
        other.stride(),
    ]
    assert composite.acon_c_backward(other, x, 1.0, 0.0, 1.0, "sigmoid")[0].stride() == x.stride()
