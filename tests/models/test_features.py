"""Networks as backbones: the maps, their channels and strides, weights from classifiers, refusals."""

import copy
import pickle

import pytest
import torch
from torch import nn

from aconite.errors import SettingsError
from aconite.models import Features, create

# Published channels of each stage, and strides with the "imagenet" stem.
BODIES = {
    "resnet8": ((16, 32, 64), (4, 8, 16)),
    "resnet18": ((64, 128, 256, 512), (4, 8, 16, 32)),
    "resnet50": ((256, 512, 1024, 2048), (4, 8, 16, 32)),
    "shufflenetv2_x0_5": ((48, 96, 192), (8, 16, 32)),
    "mobilenetv2_x1_0": ((16, 24, 32, 96, 320), (2, 4, 8, 16, 32)),
    "tfnet_0_5": ((16, 32, 64, 128), (4, 8, 16, 32)),
}


@pytest.mark.parametrize("name", BODIES)
def test_channels_and_strides(name):
    body = create(name, features_only=True)
    assert (body.channels, body.strides) == BODIES[name]


@pytest.mark.parametrize("stem", ["imagenet", "small", "tiny"])
@pytest.mark.parametrize("name", BODIES)
def test_maps_are_as_said(name, stem):
    with torch.device("meta"):
        body = create(name, features_only=True, stem=stem, in_channels=1).eval()
        maps = body(torch.zeros(2, 1, 64, 96))
    assert len(maps) >= 3
    for y, channels, stride in zip(maps, body.channels, body.strides, strict=True):
        assert y.shape == (2, channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", [name for name in BODIES if name != "resnet50"])
def test_the_maps_are_the_classifiers(name):
    torch.manual_seed(0)
    network = create(name, activation="meta-acon", num_classes=7, se=True).eval()
    body = create(name, activation="meta-acon", se=True, features_only=True, out_indices=(-1, 1)).eval()
    body.load_state_dict(network.state_dict())
    seen = {}
    for index, stage in enumerate(network.stages):
        stage.register_forward_hook(lambda _module, _inputs, output, index=index: seen.update({index: output}))
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        network(x)
        maps = body(x)
    assert len(maps) == 2
    for y, index in zip(maps, (len(network.stages) - 1, 1), strict=True):
        assert torch.equal(y, seen[index])


def test_one_seed_one_backbone():
    torch.manual_seed(3)
    network, stream = create("resnet8", activation="acon-c").state_dict(), torch.get_rng_state()
    torch.manual_seed(3)
    body = create("resnet8", activation="acon-c", features_only=True, out_indices=[0])
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, network[key]) for key, value in body.state_dict().items())


def test_later_stages_are_not_there():
    body = create("resnet18", features_only=True, out_indices=(1,))
    assert {key.split(".")[1] for key in body.state_dict() if key.startswith("stages.")} == {"0", "1"}
    assert not any(key.startswith(("head", "classifier", "stages.2")) for key in body.state_dict())


def test_loading_is_strict_about_the_rest():
    network, body = create("resnet8"), create("resnet8", features_only=True, out_indices=(0,))
    state = network.state_dict()
    state["stem.extra"] = torch.zeros(1)
    del state["stages.0.0.conv1.conv.weight"]
    with pytest.raises(RuntimeError, match=r'Missing .*"stages.0.0.conv1.conv.weight"(?s:.*)Unexpected .*"stem.extra"'):
        body.load_state_dict(state)


def test_inside_another_module_and_after_copies():
    network = create("resnet8", num_classes=3)
    body = pickle.loads(pickle.dumps(copy.deepcopy(Features(network, (0, 2)))))
    whole = nn.Sequential(body)
    whole.load_state_dict({f"0.{key}": value for key, value in network.state_dict().items()})
    x = torch.randn(1, 3, 32, 32)
    network.eval(), whole.eval()
    expected = network.stages[0](network.pool(network.stem(x)))
    assert torch.equal(whole(x)[0], expected)


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        ((), "expected stages by number"),
        (1, "expected stages by number"),
        ("01", "expected stages by number"),
        ((1.0,), "expected stages by number"),
        ((True,), "expected stages by number"),
        ((0, 3), "there is no stage 3; this network has 3, 0 to 2 or -3 to -1"),
        ((-4,), "there is no stage -4"),
        ((2, -1), "names a stage twice"),
    ],
)
def test_indices_are_checked(indices, says):
    with pytest.raises(SettingsError, match=says):
        create("resnet8", features_only=True, out_indices=indices)


def test_indices_without_features_and_other_networks():
    with pytest.raises(SettingsError, match="add features_only=True"):
        create("resnet8", out_indices=(1,))
    with pytest.raises(SettingsError, match="Linear has no known stages"):
        Features(nn.Linear(2, 2))


def test_torchvisions_detector_takes_it():
    pytest.importorskip("torchvision")
    from torchvision.models.detection import RetinaNet
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

    class Pyramid(nn.Module):
        out_channels = 256

        def __init__(self, body):
            super().__init__()
            self.body = body
            self.pyramid = FeaturePyramidNetwork(body.channels, 256, LastLevelP6P7(256, 256))

        def forward(self, images):
            return self.pyramid({str(level): y for level, y in enumerate(self.body(images))})

    torch.manual_seed(0)
    body = create("shufflenetv2_x0_5", activation="meta-acon", features_only=True, out_indices=(-3, -2, -1))
    detector = RetinaNet(Pyramid(body), num_classes=3, min_size=64, max_size=64).train()
    targets = [{"boxes": torch.tensor([[10.0, 10.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    losses = detector([torch.rand(3, 64, 64)], targets)
    sum(losses.values()).backward()
    assert body.stem.act.p1.grad.isfinite().all()
    assert body.stem.act.p1.grad.any()
