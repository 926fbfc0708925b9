"""ResNet against the reference code's counts and a restatement of its equations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aconite.models import create

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# Parameters and multiply-adds at 224 pixels, counted on the paper's public reference code; for ReLU and for
# Meta-ACON in 18 layers, with its activations exchanged.
COUNTS = {
    (18, "relu"): (11_694_312, 1_814_073_344),
    (18, "acon-c"): (11_705_832, 1_814_073_344),
    (18, "meta-acon"): (11_902_888, 1_814_261_760),
    (50, "relu"): (25_583_592, 3_857_973_248),
    (50, "acon-c"): (25_594_920, 3_857_973_248),
    (50, "meta-acon"): (25_773_368, 3_858_143_232),
    (101, "relu"): (44_601_832, 7_570_194_432),
    (101, "acon-c"): (44_626_216, 7_570_194_432),
    (101, "meta-acon"): (44_953_448, 7_570_503_680),
    (152, "relu"): (60_268_520, 11_282_415_616),
    (152, "acon-c"): (60_304_424, 11_282_415_616),
    (152, "meta-acon"): (60_763_032, 11_282_847_744),
}


@pytest.mark.parametrize(("layers", "activation"), COUNTS)
def test_counts_are_the_reference_codes(layers, activation):
    model = create(f"resnet{layers}", activation=activation).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224, device="meta"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters, counter.get_total_flops() / 2) == COUNTS[layers, activation]


def conv(inputs, outputs, kernel):
    """Weights, a bias and a norm."""
    return outputs * (kernel**2 * inputs + 3)


def parameters(layers, stem_kernel, per_site):
    """Table 1 of He et al., with biases; ``per_site(C)`` parameters at each replaced activation."""
    total, channels = conv(3, 64, stem_kernel), 64
    for width, depth in zip((64, 128, 256, 512), DEPTHS[layers], strict=True):
        for position in range(depth):
            outputs = width if layers == 18 else 4 * width
            if layers == 18:
                total += conv(channels, width, 3) + conv(width, width, 3) + 2 * per_site(width)
            else:
                total += conv(channels, width, 1) + conv(width, width, 3) + conv(width, outputs, 1) + per_site(width)
            if position == 0 and channels != outputs:
                total += conv(channels, outputs, 1)
            channels = outputs
    return total + 1000 * (channels + 1)


@pytest.mark.parametrize("stem", ["imagenet", "small", "tiny"])
@pytest.mark.parametrize("layers", [18, 50])
def test_parameters_follow_the_table(layers, stem):
    model = create(f"resnet{layers}", activation="acon-c", stem=stem)
    expected = parameters(layers, 7 if stem == "imagenet" else 3, lambda channels: 3 * channels)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("layers", DEPTHS)
def test_sites(layers):
    """Both activations of a basic block, one of a bottleneck, none in the stem."""
    widths = []

    def site(channels):
        widths.append(channels)
        return nn.SiLU()

    model = create(f"resnet{layers}", activation=site)
    per_block = 2 if layers == 18 else 1
    assert widths == [
        width
        for width, depth in zip((64, 128, 256, 512), DEPTHS[layers], strict=True)
        for _ in range(per_block * depth)
    ]
    relus = sum(isinstance(module, nn.ReLU) for module in model.modules())
    assert relus == 1 + (0 if layers == 18 else 2 * sum(DEPTHS[layers]))


# ---- the equations, restated on the state dict


def conv_norm(x, weights, at, stride=1):
    w = {key.removeprefix(f"{at}."): value for key, value in weights.items() if key.startswith(f"{at}.")}
    x = F.conv2d(x, w["conv.weight"], w["conv.bias"], stride, w["conv.weight"].shape[-1] // 2)
    mean, variance, scale, shift = (
        w[f"norm.{name}"].reshape(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
    )
    return scale * (x - mean) / (variance + 1e-5).sqrt() + shift


def excited(x, weights, at):
    if f"{at}.fc1.weight" not in weights:
        return x
    z = F.conv2d(x.mean((2, 3), keepdim=True), weights[f"{at}.fc1.weight"], weights[f"{at}.fc1.bias"]).relu()
    return x * torch.sigmoid(F.conv2d(z, weights[f"{at}.fc2.weight"], weights[f"{at}.fc2.bias"]))


def network(x, weights, layers, strides):
    first, pooled, *stages = strides
    x = conv_norm(x, weights, "stem", first).relu()
    x = F.max_pool2d(x, 3, 2, 1) if pooled == 2 else x
    for stage, (stride, blocks) in enumerate(zip(stages, DEPTHS[layers], strict=True)):
        for block in range(blocks):
            at, step = f"stages.{stage}.{block}", stride if block == 0 else 1
            if layers == 18:
                y = F.silu(conv_norm(x, weights, f"{at}.main.0", step))
                y, act, last = conv_norm(y, weights, f"{at}.main.1"), F.silu, 1
            else:
                y = conv_norm(x, weights, f"{at}.main.0", step).relu()
                y = F.silu(conv_norm(y, weights, f"{at}.main.1"))
                y, act, last = conv_norm(y, weights, f"{at}.main.2"), F.relu, 2
            y = excited(y, weights, f"{at}.main.{last}.se")
            if f"{at}.shortcut.conv.weight" in weights:
                x = conv_norm(x, weights, f"{at}.shortcut", step)
            x = act(x + y)
    return x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize("layers", [18, 50])
@pytest.mark.parametrize(
    ("stem", "strides", "pixels"),
    [("imagenet", (2, 2, 1, 2, 2, 2), 64), ("small", (1, 1, 1, 2, 2, 2), 24), ("tiny", (1, 1, 1, 1, 2, 2), 8)],
)
def test_outputs_follow_the_equations(stem, strides, pixels, layers, se):
    torch.manual_seed(0)
    model = create(f"resnet{layers}", activation="silu", num_classes=5, stem=stem, se=se).double()
    for key, value in model.state_dict().items():
        if "norm" in key and value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.5 + 0.25)
    x = torch.randn(2, 3, pixels, pixels, dtype=torch.float64)
    got = model.eval()(x)
    expected = network(x, model.state_dict(), layers, strides)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_weights_start_by_fan_out():
    torch.manual_seed(0)
    block = create("resnet50", activation="meta-acon").stages[1][0]
    for weight, fan_out in (
        (block.main[0].conv.weight, 128),
        (block.main[1].conv.weight, 128 * 9),
        (block.main[2].conv.weight, 512),
        (block.shortcut.conv.weight, 512),
        (block.main[1].act.fc1.weight, 16),
        (block.main[1].act.fc2.weight, 128),
    ):
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.12)
    bound = 1 / 256**0.5
    assert 0.8 * bound < block.main[0].conv.bias.abs().max() <= bound
    assert torch.equal(block.main[2].norm.weight, torch.ones(512))
    assert not block.main[2].norm.bias.any()
