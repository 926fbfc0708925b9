"""Meta-ACON: pooling, the small network and every gradient against float64 autograd of the plain formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aconite import functional, kernels, nn
from aconite.errors import SettingsError, ShapeError
from aconite.kernels import Generator, cpu_meta

NORM_NAMES = ("g1", "o1", "g2", "o2", "m1", "v1", "m2", "v2")


def network(c: int, hidden: int, norm: str, bias: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    w = {"p1": draw(c), "p2": draw(c), "w1": draw(hidden, c) / c**0.5, "w2": draw(c, hidden) / hidden**0.5}
    if bias:
        w |= {"b1": draw(hidden), "b2": draw(c)}
    if norm != "none":
        for k, width in (("1", hidden), ("2", c)):
            w |= {
                "g" + k: draw(width),
                "o" + k: draw(width),
                "m" + k: draw(width) * 0.1,
                "v" + k: draw(width).abs() + 0.5,
            }
    return w


def plain(
    x: Tensor, w: dict[str, Tensor], norm: str, hard: bool, channel_dim: int, scale: float
) -> tuple[Tensor, Tensor]:
    channel = channel_dim % x.dim()
    spread = [-1 if d == channel else x.shape[0] if d == 0 else 1 for d in range(x.dim())]
    per_channel = [-1 if d == channel else 1 for d in range(x.dim())]
    rest = [d for d in range(x.dim()) if d not in (0, channel)]
    z = x.mean(rest) if rest else x
    for k in ("1", "2"):
        z = z @ w["w" + k].t() + w.get("b" + k, 0)
        if norm != "none":
            mean, var = (z.mean(0), z.var(0, unbiased=False)) if norm == "batch" else (w["m" + k], w["v" + k])
            z = (z - mean) / torch.sqrt(var + 1e-5) * w["g" + k] + w["o" + k]

    def gate(t: Tensor) -> Tensor:
        return (t / 6 + 0.5).clamp(0, 1) if hard else torch.sigmoid(t)

    beta = scale * gate(z)
    p1, p2 = w["p1"].view(per_channel), w["p2"].view(per_channel)
    s = gate(beta.view(spread) * (p1 - p2) * x)
    return x * (p1 * s + p2 * (1 - s)), beta


def generator(w: dict[str, Tensor], norm: str, scale: float) -> Generator:
    norms = [w.get(name) for name in NORM_NAMES]
    return Generator(w["w1"], w["w2"], w.get("b1"), w.get("b2"), *norms, norm=norm, scale=scale)


@pytest.mark.parametrize("norm", ["none", "batch", "running"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_value_and_every_gradient(isa: str, norm: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    limit = {torch.float64: 1e-11, torch.float32: 3e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    cases = [
        ((4, 5, 7, 7), 1, 16),
        ((6, 24, 9, 9), 1, 16),
        ((16, 16, 16), 1, 17),
        ((5, 40), 1, 3),
        ((3, 10, 33), -1, 16),
        ((9, 130, 2, 2), 1, 20),
    ]
    for number, (shape, channel_dim, hidden) in enumerate(cases):
        hard, bias, last = bool(number % 2), number % 3 != 1, number % 2 == 1 and len(shape) == 4
        arithmetic = torch.float64 if dtype is torch.float64 else torch.float32
        # Means well apart between samples, so that the batch statistics are not a division of noise by noise.
        x = (torch.randn(shape) + torch.randn(shape[:1]).view(-1, *[1] * (len(shape) - 1))).to(dtype)
        if last:
            x = x.to(memory_format=torch.channels_last)
        w = network(shape[channel_dim], hidden, norm, bias, arithmetic)
        grad = torch.randn(shape).to(dtype)
        wide = {name: value.double().requires_grad_() for name, value in w.items()}
        wx = x.double().requires_grad_()
        y, beta = plain(wx, wide, norm, hard, channel_dim, 1.5)
        learnt = [name for name in wide if name[0] not in "mv"]
        truth = dict(
            zip(["x", *learnt], torch.autograd.grad(y, [wx, *(wide[n] for n in learnt)], grad.double()), strict=True)
        )
        gate = "hard" if hard else "sigmoid"
        gen = generator(w, norm, 1.5)
        got_y, saved = cpu_meta.meta_acon_c_forward(x, w["p1"], w["p2"], gen, channel_dim=channel_dim, gate=gate)
        r = cpu_meta.meta_acon_c_backward(grad, x, w["p1"], w["p2"], gen, saved, channel_dim=channel_dim, gate=gate)
        got = {
            "x": r.x,
            "p1": r.p1,
            "p2": r.p2,
            "w1": r.fc1_weight,
            "w2": r.fc2_weight,
            "b1": r.fc1_bias,
            "b2": r.fc2_bias,
        }
        got |= {"g1": r.bn1_weight, "o1": r.bn1_bias, "g2": r.bn2_weight, "o2": r.bn2_bias}
        assert got_y.dtype == r.x.dtype == dtype
        assert got_y.stride() == r.x.stride() == x.stride()
        parts = kernels.split_saved(saved, x.shape[0], x.shape[channel_dim], hidden)
        assert torch.allclose(parts.beta.double(), beta, atol=1e-4)
        for name, want in {"y": y, **truth}.items():
            have = got_y if name == "y" else got[name]
            assert have is not None
            if norm == "batch" and name in ("b1", "b2", "o1"):
                assert have.abs().max() < 1e-3  # a shift before batch statistics has no influence
                continue
            error = (have.double() - want).abs().max() / want.abs().max().clamp_min(1e-9)
            assert error < limit * (3 if norm == "batch" else 1), (shape, name, float(error))
        if bias is False:
            assert r.fc1_bias is None
            assert r.fc2_bias is None
        if norm == "none":
            assert r.bn1_weight is None
            assert r.bn2_bias is None


def test_batch_statistics_come_back_for_the_running_ones() -> None:
    torch.manual_seed(1)
    x = torch.randn(8, 12, 5, 5)
    w = network(12, 16, "batch", True, torch.float32)
    _, saved = cpu_meta.meta_acon_c_forward(x, w["p1"], w["p2"], generator(w, "batch", 1.0))
    parts = kernels.split_saved(saved, 8, 12, 16)
    z1 = x.mean((2, 3)) @ w["w1"].t() + w["b1"]
    torch.testing.assert_close(parts.mean, x.mean((2, 3)))
    torch.testing.assert_close(parts.fc1, z1)
    torch.testing.assert_close(parts.bn1_mean, z1.mean(0))
    torch.testing.assert_close(parts.bn1_var, z1.var(0, unbiased=False))


def test_reasons_of_refusal() -> None:
    x = torch.randn(3, 4, 5, 6)
    assert cpu_meta.supports_meta(x, torch.ones(4), torch.ones(4)) is None
    assert "per channel" in str(cpu_meta.supports_meta(x, torch.ones(3, 4), torch.ones(4)))
    assert "outermost" in str(cpu_meta.supports_meta(x, torch.ones(5), torch.ones(5), channel_dim=2))


def test_wrong_sizes_are_errors_that_say_what_fits() -> None:
    x = torch.randn(3, 4, 5)
    w = network(4, 16, "batch", True, torch.float32)
    good = generator(w, "batch", 1.0)
    with pytest.raises(ShapeError, match=r"expected fc1_weight \(16, 4\)"):
        cpu_meta.meta_acon_c_forward(x, w["p1"], w["p2"], good._replace(fc2_bias=torch.ones(5)))
    with pytest.raises(SettingsError, match="bn1_mean"):
        cpu_meta.meta_acon_c_forward(x, w["p1"], w["p2"], good._replace(norm="running", bn1_mean=None))
    with pytest.raises(ShapeError, match="saved has 3"):
        cpu_meta.meta_acon_c_backward(x, x, w["p1"], w["p2"], good, torch.ones(3))


@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_running_statistics_move_as_batch_norm_moves_them(momentum: float | None, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    x = torch.randn(8, 12, 5, 5, dtype=dtype)
    w = network(12, 16, "batch", True, dtype)
    _, saved = cpu_meta.meta_acon_c_forward(x, w["p1"], w["p2"], generator(w, "batch", 1.0))
    parts = kernels.split_saved(saved, 8, 12, 16)
    z1, z2 = parts.fc1, parts.fc2
    truth = [torch.nn.BatchNorm1d(width, momentum=momentum, dtype=dtype) for width in (16, 12)]
    ours = [torch.nn.BatchNorm1d(width, momentum=momentum, dtype=dtype) for width in (16, 12)]
    for _ in range(3):
        for norm, z in zip(truth, (z1, z2), strict=True):
            norm(z)
        means, variances, steps = (
            [norm.get_buffer(name) for norm in ours] for name in ("running_mean", "running_var", "num_batches_tracked")
        )
        before = [t._version for t in (*means, *variances, *steps)]
        update = cpu_meta.MetaStatisticsUpdate.of(saved.dtype, means, variances, steps, (momentum, momentum), 8)
        update(saved)
        assert all(t._version > v for t, v in zip((*means, *variances, *steps), before, strict=True))
    for one, other in zip(truth, ours, strict=True):
        for (name, want), have in zip(one.named_buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(have, want, msg=name)
    halves = [norm.half().get_buffer("running_mean") for norm in ours]
    assert cpu_meta.MetaStatisticsUpdate.of(saved.dtype, halves, variances, steps, (momentum, momentum), 8) is None


@pytest.mark.parametrize("norm", ["batch", None])
def test_a_training_step_of_the_layer(norm: str | None) -> None:
    """The statistics that a forward call moves are none of those that its backward call reads."""
    torch.manual_seed(3)
    layer = nn.MetaAconC(12, norm=norm)  # type: ignore[arg-type]
    x = torch.randn(4, 12, 5, 5, requires_grad=True)
    first, second = layer(x), layer(x)
    (first + second).square().sum().backward()
    assert x.grad is not None
    got = [x.grad, *(p.grad for p in layer.parameters())]
    leaf = x.detach().requires_grad_()
    y = functional.acon_c(leaf, layer.p1, layer.p2, layer.generate_beta(leaf))
    want = torch.autograd.grad((2 * y).square().sum(), [leaf, *layer.parameters()])
    for one, other in zip(got, want, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)


def test_a_hook_may_move_what_is_saved() -> None:
    torch.manual_seed(4)
    layer = nn.MetaAconC(12)
    x = torch.randn(4, 12, 5, 5, requires_grad=True)
    plain_gradients = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        y = layer(x)
    moved = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    for one, other in zip(moved, plain_gradients, strict=True):
        assert torch.equal(one, other)


def test_what_was_served_once_is_still_looked_at() -> None:
    class Own(Tensor):
        pass

    x, p = torch.randn(3, 4, 5, 6), torch.ones(4)
    assert cpu_meta.supports_meta(x, p, p) is None
    assert "Own" in str(cpu_meta.supports_meta(x.as_subclass(Own), p, p))
    assert "meta" in str(cpu_meta.supports_meta(x, p.to("meta"), p))
    assert "dense" in str(cpu_meta.supports_meta(x.to_sparse(), p, p))
