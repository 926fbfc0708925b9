"""MobileNetV2 against torchvision's counts and a restatement of table 2 of Sandler et al."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aconite.models import create

# Parameters and multiply-adds at 224 pixels, counted on torchvision 0.29's mobilenet_v2(width_mult=…); the authors
# print 300 M and 3.4 M at width 1.0.
COUNTS = {
    0.17: (1_445_720, 32_017_504),
    0.25: (1_519_112, 37_201_312),
    0.6: (2_217_000, 150_958_928),
    1.0: (3_504_872, 300_774_272),
    1.4: (6_108_776, 582_195_824),
}

# expansion, channels, blocks, stride; after which the resolution's stage ends
TABLE = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
STAGE = [0, 1, 2, 3, 3, 4, 4]


def name(width):
    return f"mobilenetv2_x{width}".replace(".", "_")


def channels(width, published):
    """The multiple of 8 that is nearest, the larger of two; one more where it is over a tenth below."""
    wanted = width * published
    nearest = max(8, min(range(0, 4000, 8), key=lambda n: (abs(n - wanted), -n)))
    return nearest + 8 if 10 * nearest < 9 * wanted else nearest


@pytest.mark.parametrize("width", COUNTS)
def test_counts_are_torchvisions(width):
    model = create(name(width), activation="relu6").to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224, device="meta"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters, counter.get_total_flops() / 2) == COUNTS[width]


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize("width", COUNTS)
def test_parameters_follow_the_table(width, se):
    before = channels(width, 32)
    total = before * (27 + 2)
    for expansion, published, blocks, _ in TABLE:
        for _ in range(blocks):
            middle, after = expansion * before, channels(width, published)
            total += middle * (before + 2) * (expansion > 1) + middle * (9 + 2) + after * (middle + 2)
            total += se * (2 * max(16, after // 16) * after + max(16, after // 16) + after)
            before = after
    head = channels(max(1, width), 1280)
    total += head * (before + 2) + 1000 * (head + 1)
    assert sum(parameter.numel() for parameter in create(name(width), se=se).parameters()) == total


def test_every_relu6_is_a_site():
    model = create("mobilenetv2_x0_25", activation=lambda channels: nn.ReLU6())
    assert sum(isinstance(module, nn.ReLU6) for module in model.modules()) == 35
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


def conv_norm(x, weights, at, stride=1):
    w = {key.removeprefix(f"{at}."): value for key, value in weights.items() if key.startswith(f"{at}.")}
    kernel = w["conv.weight"]
    groups = x.shape[1] // kernel.shape[1]
    x = F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, groups=groups)
    mean, variance, scale, shift = (
        w[f"norm.{name}"].reshape(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
    )
    return scale * (x - mean) / (variance + 1e-5).sqrt() + shift


def network(x, weights, stem_stride, strides):
    x = F.relu6(conv_norm(x, weights, "stem", stem_stride))
    seen = [0] * 5
    for (expansion, _, blocks, stride), stage in zip(TABLE, STAGE, strict=True):
        for block in range(blocks):
            at, step = f"stages.{stage}.{seen[stage]}.main", strides[stage] if seen[stage] == 0 else 1
            assert (step == stride) or block or strides != (1, 2, 2, 2, 2)
            seen[stage] += 1
            y = F.relu6(conv_norm(x, weights, f"{at}.0")) if expansion > 1 else x
            part = 1 if expansion > 1 else 0
            y = F.relu6(conv_norm(y, weights, f"{at}.{part}", step))
            y = conv_norm(y, weights, f"{at}.{part + 1}")
            x = x + y if block else y
    x = F.relu6(conv_norm(x, weights, "head")).mean((2, 3))
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize(
    ("stem", "first", "strides", "pixels"),
    [("imagenet", 2, (1, 2, 2, 2, 2), 96), ("small", 1, (1, 1, 2, 2, 2), 29), ("tiny", 1, (1, 1, 1, 2, 2), 8)],
)
def test_outputs_follow_the_equations(stem, first, strides, pixels):
    torch.manual_seed(0)
    model = create("mobilenetv2_x0_6", activation="relu6", num_classes=5, stem=stem).double()
    for key, value in model.state_dict().items():
        if "norm" in key and value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    x = torch.randn(2, 3, pixels, pixels, dtype=torch.float64)
    got = model.eval()(x)
    expected = network(x, model.state_dict(), first, strides)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())
