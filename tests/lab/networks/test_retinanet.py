"""RetinaNet on any backbone: labels, levels, sizes, the activation in the heads, frozen norms."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.retinanet import RetinaNetRegressionHead

from aconite.errors import SettingsError
from aconite.lab.networks import retinanet
from aconite.nn import AconC, MetaAconC

SMALL = {"fpn_channels": 16, "head_convs": 1, "side": 64, "longest": 128}


def small(model="shufflenetv2_x0_5", activation="acon-c", classes=3, **options):
    return retinanet(model, activation=activation, classes=classes, **(SMALL | options))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def targets(*labels):
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [20.0, 4.0, 60.0, 50.0]])[: len(labels)]
    return [{"boxes": boxes, "labels": torch.tensor(labels), "image_id": 0}]


@pytest.mark.parametrize("model", ["shufflenetv2_x0_5", "timm/resnet18", "torchvision/mobilenet_v3_small"])
def test_losses_and_detections(model):
    network = small(model, tell=[].append)
    images = [torch.rand(3, 64, 80), torch.rand(3, 72, 64)]
    losses = network(images, targets(1, 3) + targets(2))
    assert losses.keys() == {"classification", "bbox_regression"}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    found = network.eval()(images)
    assert [set(one) for one in found] == [{"boxes", "scores", "labels"}] * 2


def test_levels():
    """P3 to P7: strides 8 to 128."""
    network = small("resnet18").eval()
    maps = network.backbone(torch.zeros(1, 3, 256, 384))
    assert [tuple(y.shape) for y in maps.values()] == [(1, 16, 256 // s, 384 // s) for s in (8, 16, 32, 64, 128)]
    assert [sizes[0] for sizes in network.anchor_generator.sizes] == [32, 64, 128, 256, 512]
    assert network.anchor_generator.num_anchors_per_location() == [9] * 5


def test_label_k_is_score_k_minus_1():
    """Restated on the focal loss's targets, and on a network whose second class wins everywhere."""
    network = small(classes=3)
    seen = []
    head = network.head.classification_head
    compute = head.compute_loss
    head.compute_loss = lambda given, *rest: seen.append(given[0]["labels"].tolist()) or compute(given, *rest)
    given = targets(1, 3)
    network([torch.rand(3, 64, 64)], given)
    assert seen == [[0, 2]]
    assert given[0]["labels"].tolist() == [1, 3]
    assert head.cls_logits.out_channels == 3 * 9
    with torch.no_grad():
        head.cls_logits.weight.zero_()
        head.cls_logits.bias.copy_(torch.tensor([-9.0, 2.0, -9.0]).repeat(9))
    found = network.eval()([torch.rand(3, 64, 64)])[0]
    assert len(found["labels"]) > 0
    assert set(found["labels"].tolist()) == {2}


def test_it_learns_one_image():
    torch.manual_seed(0)
    network = small("shufflenetv2_x0_5", "acon-c", init="near-swish", anchor_sizes=(16, 32, 64, 128, 256))
    image, given = torch.zeros(3, 64, 64), targets(3)
    image[:, 8:40, 8:40] = 1
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        loss = sum(network([image, image], given * 2).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = network([image, image], given * 2)
    assert sum(found.values()).item() < 0.3


@pytest.mark.slow
def test_parameters_are_torchvisions():
    from torchvision.models.detection import retinanet_resnet50_fpn

    expected = count(retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=90))
    assert expected == 34_047_374
    assert count(retinanet("torchvision/resnet50", activation=None, classes=90)) == expected
    ours = retinanet("resnet50", activation="relu", classes=90)
    biases = sum(conv.out_channels for conv in ours.backbone.body.modules() if isinstance(conv, nn.Conv2d))
    assert (count(ours), biases) == (expected + biases, 26_560)


def test_smaller_heads():
    sizes = [count(small(fpn_channels=16, head_convs=convs)) for convs in (1, 2, 4)]
    one = 2 * (16 * 16 * 9 + 16)
    assert [size - sizes[0] for size in sizes] == [0, one, 3 * one]


def test_the_activation_in_the_heads_serves_all_levels():
    inside, everywhere = small(head_convs=2), small(head_convs=2, everywhere=True)
    body = sum(isinstance(module, AconC) for module in inside.modules())
    assert all("body" in path for path, module in inside.named_modules() if isinstance(module, AconC))
    layers = [path for path, module in everywhere.named_modules() if isinstance(module, AconC) and "body" not in path]
    assert len(layers) == 2 + 2 + 1  # in the two heads, and between P6 and P7
    assert sum(isinstance(module, AconC) for module in everywhere.modules()) == body + 5
    assert not [path for path, module in everywhere.named_modules() if isinstance(module, nn.ReLU)]
    copied = copy.deepcopy(everywhere)
    copied([torch.rand(3, 64, 64)], targets(1))
    with pytest.raises(SettingsError, match="name one"):
        small("timm/resnet18", None, everywhere=True)


def test_one_seed_is_one_network():
    states = []
    for activation in ("relu", "acon-c", "meta-acon"):
        torch.manual_seed(0)
        states.append(small(activation=activation, everywhere=True).state_dict())
    stock, *others = states
    assert all(torch.equal(state[key], value) for key, value in stock.items() for state in others)


def test_frozen_norms():
    network = small(activation="meta-acon", freeze_norms=True)
    norms = {path: module for path, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    inside = {
        path for path, module in norms.items() if isinstance(network.get_submodule(path.rpartition(".")[0]), MetaAconC)
    }
    assert inside
    assert norms.keys() - inside
    before = {key: value.clone() for key, value in network.state_dict().items() if "running" in key}
    network.train()
    for mode in (True, False, True):
        network.train(mode)
        assert not any(norm.training for norm in norms.values())
    assert network.head.training
    sum(network([torch.rand(3, 64, 64)], targets(1)).values()).backward()
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    for path, norm in norms.items():
        assert norm.weight.requires_grad == norm.bias.requires_grad == (path in inside)
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)
    thawed = small(activation="meta-acon")
    assert thawed.train() is thawed
    assert all(module.training for module in thawed.modules())


# What comes before the map of stride 4: by name here, by gradients there.
STEMS = {
    "resnet18": ("stem.", "stages.0."),
    "mobilenetv2_x0_17": ("stem.", "stages.0.", "stages.1."),
    "timm/resnet18": ("model.conv1.", "model.bn1.", "model.act1.", "model.layer1."),
    "torchvision/shufflenet_v2_x0_5": ("conv1.",),
}


@pytest.mark.parametrize("model", STEMS)
def test_a_frozen_stem(model):
    torch.manual_seed(0)
    network = small(model, "meta-acon", freeze_stem=True).train()
    within = tuple(f"backbone.body.{name}" for name in STEMS[model])
    fixed = {key for key, parameter in network.named_parameters() if not parameter.requires_grad}
    assert fixed == {key for key, _ in network.named_parameters() if key.startswith(within)}
    assert any(isinstance(module, MetaAconC) for path, module in network.named_modules() if path.startswith(within))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = torch.optim.SGD(network.parameters(), 0.1, weight_decay=0.1)
    sum(network([torch.rand(3, 64, 64), torch.rand(3, 64, 64)], targets(1) + targets(2)).values()).backward()
    optimiser.step()
    same = {key for key, value in network.state_dict().items() if torch.equal(value, before[key])}
    assert {key for key in before if key.startswith(within)} <= same  # statistics of norms too
    moved = {key for key, parameter in network.named_parameters() if parameter.requires_grad} - same
    assert moved >= {
        key for key, parameter in network.named_parameters() if parameter.requires_grad and "weight" in key
    }
    assert {key for key in before if "running_mean" in key and not key.startswith(within)}.isdisjoint(same)


def test_freezing_a_stem_changes_nothing_else():
    states = []
    for freeze in (False, True):
        torch.manual_seed(0)
        network = small("resnet18", freeze_stem=freeze)
        states.append((network.state_dict(), torch.rand(1), [module.training for module in network.modules()][:1]))
    (one, draw, mode), (other, drawn, modes) = states
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert (draw, mode) == (drawn, modes)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("shufflenetv2_x0_5", "the fourth-last, and shufflenetv2_x0_5 has none: leave it away"),
        ("resnet8", r"strides \(4, 8, 16\): RetinaNet needs 8, 16 and 32"),
        ("timm/hrnet_w18_small", "coarser maps are not made of it"),
    ],
)
def test_a_network_without_such_a_stem(model, words):
    with pytest.raises(SettingsError, match=words):
        small(model, "relu", freeze_stem=True, tell=[].append)


@pytest.mark.parametrize("beta", [0.0, 0.11])
def test_the_loss_of_boxes(beta):
    """Restated on one anchor that an object is matched to; one of an image without objects counts 0."""
    head = small(box_beta=beta).head.regression_head
    anchors = torch.tensor([[0.0, 0.0, 20.0, 40.0], [0.0, 0.0, 10.0, 10.0]])
    there = torch.tensor([[4.0, 0.0, 24.0, 80.0]])  # its middle 4 to the right and 20 below, twice as high
    said = torch.tensor([[[0.25, 0.5, -0.3, math.log(2) + 0.02], [9.0, 9.0, 9.0, 9.0]]] * 2)
    errors = [0.25 - 4 / 20, 0.5 - 20 / 40, -0.3, 0.02]
    losses = [x * x / (2 * beta) if abs(x) < beta else abs(x) - beta / 2 for x in errors]
    found = head.compute_loss(
        [{"boxes": there}, {"boxes": torch.zeros(0, 4)}],
        {"bbox_regression": said},
        [anchors, anchors],
        [torch.tensor([0, -1]), torch.tensor([-1, -2])],
    )
    assert found.item() == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_without_beta_the_losses_are_torchvisions():
    torch.manual_seed(0)
    network = small()
    images, given = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)], targets(1, 3) + targets(2)
    found = network(images, given)
    theirs = RetinaNetRegressionHead(16, 9)
    theirs.conv = theirs.conv[:1]
    theirs.load_state_dict(network.head.regression_head.state_dict())
    network.head.regression_head = theirs
    for name, loss in network(images, given).items():
        torch.testing.assert_close(found[name], loss, rtol=1e-6, atol=0)


def test_with_frozen_norms_images_do_not_see_each_other():
    """What makes two processes equal to one with the doubled batch."""
    torch.manual_seed(0)
    network = small(activation="meta-acon", freeze_norms=True)
    images, given = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)], targets(1) + targets(2)
    together = network(images, given)
    alone = [network([image], [target]) for image, target in zip(images, given, strict=True)]
    for name, loss in together.items():
        torch.testing.assert_close(loss, (alone[0][name] + alone[1][name]) / 2)


def test_sizes():
    network = small(side=(32, 64), longest=100)
    assert network.transform.min_size == (32, 64)
    sizes = {tuple(network.transform([torch.rand(3, 50, 50)])[0].image_sizes[0]) for _ in range(20)}
    assert sizes == {(32, 32), (64, 64)}
    assert network.eval().transform([torch.rand(3, 50, 100)])[0].image_sizes == [(50, 100)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "resnet8"}, r"strides \(4, 8, 16\): RetinaNet needs 8, 16 and 32"),
        ({"head_convs": 5}, "head_convs=5: expected 1 to 4"),
        ({"anchor_sizes": (32, 64)}, "one for each of the levels"),
        ({"box_beta": -0.1}, "box_beta=-0.1: expected 0 or more"),
    ],
)
def test_mistakes_are_told(options, words):
    with pytest.raises(SettingsError, match=words):
        small(**options)
