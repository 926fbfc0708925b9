"""TFNet against the reference code's counts and a restatement of its equations (ACON-FReLU: test_checkpoints)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aconite.models import create
from aconite.nn import AconFReLU, activations

# Parameters and multiply-adds at 224 pixels, counted on the paper's public reference code.
COUNTS = {
    "0_5": (1_344_504, 42_450_560),
    "1_0": (1_923_336, 134_805_760),
    "1_5": (2_778_904, 278_541_184),
    "2_0": (3_911_208, 473_656_832),
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("size", COUNTS)
def test_counts_are_the_reference_codes(size):
    model = create(f"tfnet_{size}", activation="acon-frelu").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    assert (count(model), counter.get_total_flops() / 2) == COUNTS[size]


def test_dropout_is_the_larger_models_alone():
    assert [create(f"tfnet_{size}").dropout.p for size in COUNTS] == [0, 0.2, 0.2, 0.2]


def test_another_activation_drops_the_funnels():
    funnels = sum(
        14 * channels  # a 3×3 kernel with bias, two norms
        for channels in (8, 16, *2 * [16], 16, 32, *4 * [32], 32, 64, *14 * [64], 64, 128, *4 * [128], 1024)
    )
    assert count(create("tfnet_0_5", activation="acon-frelu")) - count(create("tfnet_0_5")) == funnels
    assert not any("frelu" in name for name, _ in create("tfnet_0_5").named_modules())


@pytest.mark.parametrize("activation", ["relu", "acon-frelu"])
@pytest.mark.parametrize(
    ("stem", "sizes"), [("imagenet", (32, 16, 8, 4)), ("small", (64, 32, 16, 8)), ("tiny", (64, 64, 32, 16))]
)
def test_stems(stem, sizes, activation):
    model = create("tfnet_0_5", activation=activation, stem=stem).eval()
    assert count(model) == count(create("tfnet_0_5", activation=activation))
    x = model.stem(torch.randn(1, 3, 64 * (2 if stem == "imagenet" else 1), 64 * (2 if stem == "imagenet" else 1)))
    for stage, size, channels in zip(model.stages, sizes, (16, 32, 64, 128), strict=True):
        x = stage(x)
        assert x.shape == (1, channels, size, size)


# ---- another activation, restated on the state dict


def conv_norm(x, weights, at, stride=1):
    w = {key.removeprefix(f"{at}."): value for key, value in weights.items() if key.startswith(f"{at}.")}
    x = F.conv2d(x, w["conv.weight"], w["conv.bias"], stride, w["conv.weight"].shape[-1] // 2)
    mean, variance, scale, shift = (
        w[f"norm.{name}"].reshape(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
    )
    return scale * (x - mean) / (variance + 1e-5).sqrt() + shift


def network(x, weights, strides):
    first, *stages = strides
    x = conv_norm(x, weights, "stem", first).relu()
    for stage, (stride, blocks) in enumerate(zip(stages, (2, 3, 8, 3), strict=True)):
        for block in range(blocks):
            at = f"stages.{stage}.{block}.main"
            y = conv_norm(F.silu(conv_norm(x, weights, f"{at}.0")), weights, f"{at}.1")
            x = torch.cat((x, y), 1) if block == 0 else x + y
            x = F.silu(F.max_pool2d(x, 3, 2, 1) if block == 0 and stride == 2 else x)
    x = F.silu(conv_norm(x, weights, "head")).flatten(2).mean(2)
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize(
    ("stem", "strides", "pixels"),
    [("imagenet", (2, 2, 2, 2, 2), 96), ("small", (1, 1, 2, 2, 2), 29), ("tiny", (1, 1, 1, 2, 2), 8)],
)
def test_outputs_follow_the_equations(stem, strides, pixels):
    torch.manual_seed(0)
    model = create("tfnet_0_5", activation="silu", num_classes=5, stem=stem).double()
    for key, value in model.state_dict().items():
        if "norm" in key and value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    x = torch.randn(2, 3, pixels, pixels, dtype=torch.float64)
    got = model.eval()(x)
    expected = network(x, model.state_dict(), strides)
    assert expected.std() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_activations_share_all_other_weights():
    torch.manual_seed(0)
    plain = create("tfnet_0_5").state_dict()
    torch.manual_seed(0)
    funnels = create("tfnet_0_5", activation="acon-frelu").state_dict()
    assert all(torch.equal(funnels[key], value) for key, value in plain.items())
    assert all(".act." in key for key in funnels.keys() - plain.keys())


def test_a_factory_of_funnels_gets_the_strides():
    model = create("tfnet_0_5", activation=lambda channels: AconFReLU(channels, learn_beta=True), stem="small").eval()
    assert [stage[0].act.stride for stage in model.stages] == [1, 2, 2, 2]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 1000)


@pytest.mark.parametrize("activation", activations())
def test_every_activation_trains(activation):
    torch.manual_seed(0)
    model = create("tfnet_0_5", activation=activation, num_classes=3, stem="tiny").train()
    loss = nn.functional.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_weights_start_as_in_the_reference_code():
    torch.manual_seed(0)
    model = create("tfnet_2_0", activation="acon-frelu")
    block = model.stages[3][1]
    for weight, std in (
        (model.stem.conv.weight, 0.01),
        (block.main[0].conv.weight, 1 / 512),
        (block.main[0].act.conv_frelu.weight, 0.01),
        (block.act.conv_frelu.weight, 0.01),
        (model.head.conv.weight, 1 / 512),
        (model.classifier.weight, 0.01),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.12)
        assert weight.mean().abs().item() < 0.2 * std
    assert not block.act.conv_frelu.bias.any()
    assert torch.equal(block.main[1].norm.bias, torch.full((512,), 1e-4))
