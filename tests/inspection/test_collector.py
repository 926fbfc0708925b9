"""Every statistic against its definition, computed at once over all data; and that a watched model is not disturbed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import aconite
from aconite.errors import SettingsError, ShapeError
from aconite.inspection import ActivationStatistics, LayerStatistics, shape_parameters
from aconite.nn import AconC, BatchNormAconC2d, BatchNormMetaAconC2d, MetaAconC, activation, activations

C, H, W = 5, 3, 4


def stacked(act: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, C, 3, padding=1), act, nn.Flatten(), nn.Linear(C * H * W, 3))


def data(images: int = 22) -> Tensor:
    return torch.randn(images, 2, H, W, generator=torch.Generator().manual_seed(2))


def watch(model: nn.Module, x: Tensor, sizes: tuple[int, ...] = (3, 10, 1, 8), **options: object) -> LayerStatistics:
    with ActivationStatistics(model, **options) as statistics:  # type: ignore[arg-type]
        for batch in x.split(sizes):
            model(batch)
    [layer] = statistics.layers().values()
    return layer


def flat(values: Tensor, c: int = 1) -> Tensor:
    return values.detach().double().movedim(c, 0).flatten(1)


NAMES = [name for name in activations() if name != "identity"]


@pytest.mark.parametrize("name", NAMES)
def test_sums_over_batches_are_those_over_all_data(name: str) -> None:
    torch.manual_seed(0)
    model = stacked(activation(name, C)).eval()
    layer = watch(model, data())
    x = model[0](data())
    y = model[1](x)
    u, v = flat(x), flat(y)
    assert layer.kind == type(model[1]).__name__
    assert (layer.count, layer.channels) == (22 * H * W, C)
    assert torch.allclose(layer.mean, v.mean(1), rtol=1e-5, atol=1e-7)  # a convolution rounds with the batch
    assert torch.allclose(layer.std, v.std(1, correction=0), rtol=1e-5, atol=1e-7)
    assert torch.allclose(layer.low, v.amin(1), rtol=1e-5, atol=1e-6)
    assert torch.allclose(layer.high, v.amax(1), rtol=1e-5, atol=1e-6)
    assert layer.nonlinearity is not None
    for one, a, b in zip(layer.nonlinearity, u, v, strict=True):  # the residual of a least-squares line
        ones = torch.stack([a, torch.ones_like(a)], 1)
        rest = b - ones @ torch.linalg.lstsq(ones, b).solution
        assert one.item() == pytest.approx((rest.square().sum() / (b - b.mean()).square().sum()).item(), abs=1e-6)
    size = (v.mean(1).abs() / v.square().mean(1).sqrt()).mean().item()
    assert layer.offset == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if "frelu" not in name and name != "se-relu"])
def test_saturation_is_the_share_of_small_slopes(name: str) -> None:
    """By central differences, β held; inputs where the slope is near the threshold may fall on either side."""
    torch.manual_seed(0)
    act = activation(name, C).double().eval()
    x = 4 * torch.randn(40, C, H, W, dtype=torch.float64)
    layer = watch(act, x, (40,))
    function: Callable[[Tensor], Tensor] = act
    if isinstance(act, MetaAconC):
        beta = act.generate_beta(x)
        beta = beta if beta.shape == x.shape else beta[:, :, None, None]
        slopes = [part[:, None, None] for part in (act.p1, act.p2)]
        function = lambda at: aconite.reference.acon_c(at, *slopes, beta)  # noqa: E731
    slope = flat((function(x + 1e-6) - function(x - 1e-6)) / 2e-6).abs()
    assert layer.saturation is not None
    low, high = ((slope < at).double().mean(1) for at in (0.00999, 0.01001))
    assert bool(((low <= layer.saturation) & (layer.saturation <= high)).all())


def test_dead_units_never_move() -> None:
    act = nn.ReLU()
    x = torch.randn(30, 4) - torch.tensor([0.0, 9.0, 0.0, 0.0])
    x[:, 2] = -1.0  # never active, and its input is constant as well
    x[17, 1] = 0.0
    layer = watch(act, x, (10, 10, 10))
    assert layer.dead.tolist() == [False, True, True, False]
    assert layer.dead_share == 0.5
    x[17, 1] = 1e-3  # once is enough
    assert watch(act, x, (10, 10, 10)).dead.tolist() == [False, False, True, False]
    assert layer.saturation is not None
    assert layer.saturation.tolist() == [(x[:, 0] <= 0).double().mean(), 1.0, 1.0, (x[:, 3] <= 0).double().mean()]
    assert layer.nonlinearity is not None
    assert layer.nonlinearity[1:3].tolist() == [0.0, 0.0]


def test_nonlinearity_of_known_functions() -> None:
    """ReLU on N(0, 1): cov = 1/2, var = 1/2 − 1/(2π), so R² = 1/4 / (1/2 − 1/(2π))."""
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    layer = watch(nn.ReLU(), x, (100_000, 100_000))
    assert layer.nonlinearity is not None
    assert layer.nonlinearity.item() == pytest.approx(1 - 0.25 / (0.5 - 1 / (2 * torch.pi)), abs=3e-3)
    assert layer.offset == pytest.approx((1 / torch.pi) ** 0.5, abs=3e-3)
    linear = watch(nn.LeakyReLU(1.0), x, (200_000,))
    assert linear.nonlinearity is not None
    assert linear.nonlinearity.item() < 1e-12


def test_large_means_lose_no_digits() -> None:
    x = 1e6 + torch.randn(900, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = watch(nn.LeakyReLU(0.1), x, (300, 300, 300))
    assert layer.std.item() == pytest.approx(x.std(correction=0).item(), rel=1e-9)
    assert layer.nonlinearity is not None
    assert layer.nonlinearity.item() < 1e-9


@pytest.mark.parametrize("p", [(1.0, 0.0), (1.2, -0.8)])
def test_states_follow_the_gate_s_argument(p: tuple[float, float]) -> None:
    act = AconC(3)
    act.p1.data.fill_(p[0])
    act.p2.data.fill_(p[1])
    x = torch.randn(500, 3)
    rms = x.double().square().mean(0).sqrt() * (p[0] - p[1])
    act.beta.data = (torch.tensor([0.19, 1.0, -2.6]) / rms).float()
    layer = watch(act, x, (500,))
    assert layer.swing is not None
    assert layer.swing.tolist() == pytest.approx([0.19, 1.0, 2.6], rel=1e-5)
    assert layer.states == pytest.approx({"linear": 1 / 3, "switching": 1 / 3, "activated": 1 / 3})
    assert layer.parameters is not None
    assert layer.parameters.beta is not None
    assert layer.parameters.beta.tolist() == act.beta.tolist()


@pytest.mark.parametrize("name", ["meta-acon", "meta-acon-layer", "meta-acon-pixel"])
def test_generated_beta_of_the_first_images(name: str) -> None:
    torch.manual_seed(0)
    model = stacked(activation(name, C)).eval()
    layer = watch(model, data(), images=5)
    act = model[1]
    assert isinstance(act, MetaAconC)
    x = model[0](data())
    beta = act.generate_beta(x).double()
    assert layer.image_betas is not None
    assert torch.allclose(layer.image_betas, beta[:5].flatten(1), rtol=1e-5)
    full = (beta if beta.ndim == 4 else beta[:, :, None, None]).expand(x.shape)
    assert layer.parameters is not None
    assert layer.parameters.beta is not None
    assert torch.allclose(layer.parameters.beta, flat(full).mean(1), rtol=1e-5)
    z = full * (act.p1 - act.p2)[:, None, None] * x
    assert layer.swing is not None
    assert torch.allclose(layer.swing, flat(z).square().mean(1).sqrt(), rtol=1e-5)


def test_gradient_does_not_depend_on_the_batches() -> None:
    torch.manual_seed(0)
    model = stacked(nn.SiLU()).eval()
    target = torch.arange(22) % 3
    seen = []
    for size in (22, 4):
        with ActivationStatistics(model) as statistics:
            for x, t in zip(data().split(size), target.split(size), strict=True):
                nn.functional.cross_entropy(model(x), t, reduction="sum").backward()
        [layer] = statistics.layers().values()
        assert layer.gradient is not None
        seen.append(layer.gradient)
    x = model[0](data()).detach()
    y = model[1](x).requires_grad_()
    [grad] = torch.autograd.grad(nn.functional.cross_entropy(model[3](y.flatten(1)), target, reduction="sum"), y)
    for gradient in seen:
        assert torch.allclose(gradient, flat(grad).square().mean(1).sqrt(), rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["acon-c", "meta-acon", "relu", "se-relu", "frelu", "bn-acon-c", "bn-meta-acon"])
def test_a_watched_model_does_what_it_did(name: str, training: bool) -> None:
    torch.manual_seed(0)
    fused = {"bn-acon-c": BatchNormAconC2d, "bn-meta-acon": BatchNormMetaAconC2d}
    act = fused[name](C) if name in fused else nn.ReLU(inplace=True) if name == "relu" else activation(name, C)
    model = stacked(act).train(training)
    other = copy.deepcopy(model)
    before = torch.get_rng_state()
    with ActivationStatistics(model) as statistics:
        model(data()).square().sum().backward()
    other(data()).square().sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in other.state_dict().items():
        assert torch.allclose(model.state_dict()[key], value, rtol=1e-5, atol=1e-6), key
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert torch.allclose(one.grad, two.grad, rtol=1e-3, atol=1e-3 * float(two.grad.abs().max()))
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    [layer] = statistics.layers().values()
    assert layer.gradient is not None
    if name == "relu":  # in place: the input was kept
        assert layer.nonlinearity is not None
        assert float(layer.nonlinearity.mean()) > 0.05


@pytest.mark.parametrize("meta", [False, True])
def test_norm_and_activation_in_one_layer_count_as_two(meta: bool) -> None:
    torch.manual_seed(0)
    both = (BatchNormMetaAconC2d if meta else BatchNormAconC2d)(2)
    pair = nn.Sequential(nn.BatchNorm2d(2), MetaAconC(2) if meta else AconC(2))
    state = both.state_dict()
    pair[0].load_state_dict({k: v for k, v in state.items() if k in pair[0].state_dict()})
    pair[1].load_state_dict({k: v for k, v in state.items() if k in pair[1].state_dict()})
    one, two = (watch(model.eval(), data(), (10, 12)).as_row() for model in (both, pair))
    for name in ("mean", "std", "nonlinearity", "saturation", "swing", "beta"):
        assert one[name] == pytest.approx(two[name], rel=1e-4, abs=1e-6), name


def test_inference_mode_and_half_types() -> None:
    model = stacked(AconC(C)).eval()
    with torch.inference_mode():
        layer = watch(model, data())
    assert torch.allclose(layer.mean, watch(model, data()).mean)
    half = watch(nn.SiLU().bfloat16(), data().bfloat16(), (22,))
    assert half.mean.dtype == torch.float64


def test_a_shared_module_has_an_entry_for_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.act(self.act(x) - 1)
            return y

    x = torch.randn(20, 3)
    with ActivationStatistics(model := Twice()) as statistics:
        for batch in x.split(7):
            model(batch)
    layers = statistics.layers()
    assert list(layers) == ["act", "act (2nd call)"]
    assert torch.allclose(layers["act (2nd call)"].mean, (x.relu() - 1).relu().double().mean(0))
    statistics.reset()
    assert statistics.layers() == {}


def test_tokens_have_their_channels_last() -> None:
    x = torch.randn(2, 7, 4)
    assert watch(nn.GELU(), x, (2,), channel_dim=-1).channels == 4
    assert watch(AconC(channel_dim=-1), x, (2,)).channels == 4
    with pytest.raises(ShapeError, match="channel_dim"):
        watch(nn.GELU(), x, (2,), channel_dim=3)
    with pytest.raises(ShapeError, match="run a batch"):
        watch(nn.GELU(), x[0, 0], (4,), channel_dim=-1)


def test_models_that_cannot_be_watched() -> None:
    with pytest.raises(SettingsError, match=r"no activation module: functions such as F.relu"):
        ActivationStatistics(nn.Linear(2, 2))
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    fused, _ = aconite.fuse(model, data())
    with pytest.raises(SettingsError, match=r"aconite\.unfuse"):
        ActivationStatistics(fused)


def test_parameters_without_data() -> None:
    model = nn.Sequential(AconC(3), nn.ReLU(), MetaAconC(3), aconite.AconA(3), AconC())
    found = shape_parameters(model)
    assert list(found) == ["0", "2", "3"]
    assert found["0"].p1.tolist() == model[0].p1.tolist()
    assert found["2"].beta is None
    assert (found["3"].p1.tolist(), found["3"].p2.tolist()) == ([1.0] * 3, [0.0] * 3)


@pytest.mark.parametrize("granularity", ["channel", "layer", "pixel"])
@pytest.mark.parametrize(("shape", "dim"), [((6, 7, 4), -1), ((4, 5, 3), -3), ((8, 4), 1)])
def test_gates_of_any_layout(granularity: str, shape: tuple[int, ...], dim: int) -> None:
    """Tokens, an unbatched image, vectors: z, β and the slope stand where the layer has them."""
    torch.manual_seed(0)
    act = MetaAconC(4, granularity=granularity, channel_dim=dim).eval()  # type: ignore[arg-type]
    x = torch.randn(shape)
    layer = watch(act, x, (shape[0],))
    c = dim % len(shape)
    beta = act.generate_beta(x)
    if granularity != "pixel":
        size = [1] * len(shape)
        size[c] = 4 if granularity == "channel" else 1
        size[0] = shape[0] if c else size[0]
        beta = beta.reshape(size)
    beta = beta.expand(shape)
    along = [-1 if d == c else 1 for d in range(len(shape))]
    p1, p2 = act.p1.reshape(along), act.p2.reshape(along)
    assert torch.allclose(act(x), aconite.reference.acon_c(x, p1, p2, beta), atol=1e-6)
    assert layer.swing is not None
    assert torch.allclose(layer.swing, flat(beta * (p1 - p2) * x, c).square().mean(1).sqrt(), rtol=1e-5)
    assert layer.parameters is not None
    assert layer.parameters.beta is not None
    assert torch.allclose(layer.parameters.beta, flat(beta, c).mean(1), rtol=1e-5)
    assert layer.saturation is not None
    slope = flat(aconite.reference.acon_c_derivative(x, p1, p2, beta), c).abs()
    assert torch.allclose(layer.saturation, (slope < 0.01).double().mean(1))
