"""The CIFAR ResNets against He et al. 2016: counts, the block's equation, the first weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aconite.models import create

# He et al. print 0.27, 0.46, 0.66 and 0.85 million for 20, 32, 44 and 56 layers.
PARAMETERS = {8: 75_290, 14: 172_506, 20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018}


@pytest.mark.parametrize("depth", PARAMETERS)
def test_parameters_and_depth(depth):
    model = create(f"resnet{depth}", num_classes=10, stem="small")
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[depth]
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


@pytest.mark.parametrize(("stem", "pixels"), [("small", 32), ("tiny", 32), ("imagenet", 128)])
def test_multiply_adds(stem, pixels):
    model = create("resnet20", num_classes=10, stem=stem).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, pixels, pixels))
    # Per stage six convolutions of 9·C²·H·W, where the first of a halving stage has half the inputs.
    stem_positions = {"small": 32, "tiny": 32, "imagenet": 64}[stem] ** 2
    body = 9 * (6 * 16**2 * 32**2 + (5 * 32 + 16) * 32 * 16**2 + (5 * 64 + 32) * 64 * 8**2)
    assert counter.get_total_flops() / 2 == 27 * 16 * stem_positions + body + 64 * 10


def test_a_halving_block_follows_the_equation():
    torch.manual_seed(0)
    block = create("resnet8", activation="acon-c").stages[1][0].double().eval()
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64)

    def bn(y, norm):
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    y = block.conv1.act(bn(F.conv2d(x, block.conv1.conv.weight, None, 2, 1), block.conv1.norm))
    y = bn(F.conv2d(y, block.conv2.conv.weight, None, 1, 1), block.conv2.norm)
    y[:, :16] += x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), block.act(y))


def test_weights_start_by_fan_out():
    torch.manual_seed(0)
    model = create("resnet8", activation="meta-acon")
    block = model.stages[2][0]
    for weight, fan_out in (
        (block.conv1.conv.weight, 64 * 9),
        (block.conv2.conv.weight, 64 * 9),
        (block.act.fc1.weight, 16),
        (block.act.fc2.weight, 64),
    ):
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.12)
    assert model.classifier.weight.abs().max() <= 1 / 64**0.5
    assert torch.equal(block.conv1.norm.weight, torch.ones(64))
    assert not block.conv1.norm.bias.any()
