"""The ShuffleNetV2 family against the reference code's counts and a restatement of its equations."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from aconite.models import create

# Parameters and multiply-adds at 224 pixels, counted on the paper's public reference code.
COUNTS = {
    ("acon-c", "x0_5"): (1_379_600, 40_476_448),
    ("acon-c", "x1_0"): (2_304_740, 145_814_296),
    ("acon-c", "x1_5"): (3_543_440, 298_970_656),
    ("acon-c", "x2_0"): (7_455_588, 590_783_000),
    ("meta-acon", "x0_5"): (1_686_620, 40_776_224),
    ("meta-acon", "x1_0"): (2_596_384, 146_092_760),
    ("meta-acon", "x1_5"): (3_953_842, 299_362_976),
    ("meta-acon", "x2_0"): (8_437_946, 591_739_448),
}


@pytest.mark.parametrize(("activation", "size"), COUNTS)
def test_counts_are_the_reference_codes(activation, size):
    model = create(f"shufflenetv2_{size}", activation=activation).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    assert (parameters, counter.get_total_flops() / 2) == COUNTS[activation, size]


@pytest.mark.parametrize("stem", ["small", "tiny"])
def test_the_stem_adds_and_drops_no_parameter(stem):
    model = create("shufflenetv2_x0_5", activation="acon-c", stem=stem)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_379_600


def test_dropout_is_the_two_times_models_alone():
    sizes = ("x0_5", "x1_0", "x1_5", "x2_0")
    assert [create(f"shufflenetv2_{size}").dropout.p for size in sizes] == [0, 0, 0, 0.2]


# ---- the equations, restated on the state dict


def conv_norm(x, weights, at, *, stride=1, depthwise=False, act=True):
    w = {key.removeprefix(f"{at}."): value for key, value in weights.items() if key.startswith(f"{at}.")}
    kernel = w["conv.weight"]
    groups = x.shape[1] if depthwise else 1
    x = F.conv2d(x, kernel, w["conv.bias"], stride, kernel.shape[-1] // 2, groups=groups)
    x = (x - _column(w["norm.running_mean"])) / _column(w["norm.running_var"] + 1e-5).sqrt()
    x = _column(w["norm.weight"]) * x + _column(w["norm.bias"])
    if not act:
        return x
    p1, p2, beta = (_column(w[f"act.{name}"]) for name in ("p1", "p2", "beta"))
    return (p1 - p2) * x * torch.sigmoid(beta * (p1 - p2) * x) + p2 * x


def _column(vector):
    return vector.reshape(-1, 1, 1)


def branch(x, weights, at, stride):
    x = conv_norm(x, weights, f"{at}.0")
    x = conv_norm(x, weights, f"{at}.1", stride=stride, depthwise=True, act=False)
    return conv_norm(x, weights, f"{at}.2")


def network(x, weights, strides):
    first, pooled, *stages = strides
    x = conv_norm(x, weights, "stem", stride=first)
    x = F.max_pool2d(x, 3, 2, 1) if pooled == 2 else x
    for stage, (stride, blocks) in enumerate(zip(stages, (4, 8, 4), strict=True)):
        at = f"stages.{stage}.0"
        left = conv_norm(x, weights, f"{at}.shortcut.0", stride=stride, depthwise=True, act=False)
        left = conv_norm(left, weights, f"{at}.shortcut.1")
        x = torch.cat((left, branch(x, weights, f"{at}.main", stride)), 1)
        for block in range(1, blocks):
            right = branch(x[:, 1::2], weights, f"stages.{stage}.{block}.main", 1)
            x = torch.cat((x[:, 0::2], right), 1)
    x = conv_norm(x, weights, "head").flatten(2).mean(2)
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize(
    ("stem", "strides", "pixels"),
    [("imagenet", (2, 2, 2, 2, 2), 96), ("small", (1, 1, 2, 2, 2), 32), ("tiny", (1, 1, 1, 2, 2), 8)],
)
def test_outputs_follow_the_equations(stem, strides, pixels):
    torch.manual_seed(0)
    model = create("shufflenetv2_x0_5", activation="acon-c", num_classes=5, stem=stem).double()
    for key, value in model.state_dict().items():
        if "norm" in key and value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    x = torch.randn(2, 3, pixels, pixels, dtype=torch.float64)
    got = model.eval()(x)
    expected = network(x, model.state_dict(), strides)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


# ---- the first weights


def test_weights_start_as_in_the_reference_code():
    torch.manual_seed(0)
    model = create("shufflenetv2_x1_0", activation="meta-acon")
    unit = model.stages[1][3].main
    for weight, std in (
        (model.stem.conv.weight, 0.01),
        (unit[0].conv.weight, 1 / 116),
        (unit[1].conv.weight, 1.0),
        (unit[0].act.fc1.weight, 1 / 116),
        (unit[0].act.fc2.weight, 1 / 16),
        (model.classifier.weight, 0.01),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.12)
        assert weight.mean().abs().item() < 0.2 * std
    assert not unit[0].conv.bias.any()
    assert not model.classifier.bias.any()
    assert torch.equal(unit[0].norm.bias, torch.full((116,), 1e-4))
    assert torch.equal(unit[0].norm.weight, torch.ones(116))
