"""Loading checkpoints of the reference code: wrappers, files, and what does not fit.

That names, shapes and outputs are the reference code's is shown in test_reference_networks.
"""

import re

import pytest
import torch

import aconite
from aconite.errors import AconiteError, CheckpointError, SettingsError, StateDictError
from aconite.models import create, load_reference, reference_state_dict

ONE_OF_EACH = (
    ("shufflenetv2_x0_5", "acon-c"),
    ("shufflenetv2_x0_5", "meta-acon"),
    ("resnet18", "acon-c"),
    ("resnet50", "meta-acon"),
    ("tfnet_0_5", "acon-frelu"),
)


@pytest.fixture(scope="module")
def of_acon():
    return reference_state_dict(create("shufflenetv2_x0_5", activation="acon-c"))


# ---- what fits


def test_wrappers_of_training_scripts(of_acon):
    parallel = {f"module.{key}": value for key, value in of_acon.items()}
    for content in (parallel, {"state_dict": parallel, "epoch": 3}, {"state_dict": of_acon}):
        model = load_reference(create("shufflenetv2_x0_5", activation="acon-c"), content)
        assert torch.equal(model.classifier.weight, of_acon["classifier.0.weight"])


def test_a_fused_network_loads(of_acon):
    model = create("shufflenetv2_x0_5", activation="acon-c").eval()
    fused, _ = aconite.fuse(model, torch.randn(2, 3, 64, 64))
    x = torch.rand(2, 3, 64, 64) * 255
    expected = load_reference(model, of_acon)(x)
    torch.testing.assert_close(load_reference(fused, of_acon).eval()(x), expected, rtol=1e-4, atol=1e-4)


# ---- what does not


def refused(model, content):
    """The message; the network must be as it was."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(AconiteError) as caught:
        load_reference(model, content)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return caught


def test_what_is_missing_unknown_and_of_another_shape_is_listed(of_acon):
    bad = {key: value for key, value in of_acon.items() if not key.endswith("branch_main.7.beta")}
    del bad["first_conv.2.p1"], bad["first_conv.2.p2"]
    bad |= {"fc.weight": torch.zeros(3), "classifier.0.bias": torch.zeros(7), "features.3.extra.bias": torch.zeros(1)}
    caught = refused(create("shufflenetv2_x0_5", activation="acon-c"), bad)
    assert caught.type is StateDictError
    assert str(caught.value).splitlines() == [
        "this checkpoint does not fit the given ShuffleNetV2",
        "missing in the checkpoint:",
        "  first_conv.2: p1, p2",
        f"  features.({', '.join(map(str, range(16)))}).branch_main.7: beta",
        "unknown to the network:",
        "  fc: weight",
        "  features.3.extra: bias",
        "of another shape:",
        "  classifier.0.bias: (7,), not (1000,)",
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("shufflenetv2_x0_5", {"activation": "relu"}),
        ("shufflenetv2_x0_5", {"activation": "meta-acon"}),
        ("shufflenetv2_x1_0", {"activation": "acon-c"}),
        ("shufflenetv2_x0_5", {"activation": "acon-c", "num_classes": 10}),
        ("tfnet_0_5", {"activation": "acon-frelu"}),
    ],
)
def test_the_right_network_is_named(of_acon, name, options):
    message = str(refused(create(name, **options), of_acon).value)
    call = re.search(r"it belongs to aconite\.models\.create\('(\w+)', (.*)\)$", message)
    assert call[1] == "shufflenetv2_x0_5"
    assert call[2] == "activation='acon-c', num_classes=1000, in_channels=3"


@pytest.mark.parametrize(("name", "activation"), ONE_OF_EACH)
def test_the_call_named_fits(name, activation):
    theirs = reference_state_dict(create(name, activation=activation, num_classes=7, in_channels=1))
    message = str(refused(create("shufflenetv2_x1_0", num_classes=7), theirs).value)
    call = message.partition("it belongs to ")[2]
    load_reference(eval(call, {"aconite": aconite}), theirs)


def test_own_checkpoints_and_other_families():
    model = create("shufflenetv2_x0_5")
    assert "load it with model.load_state_dict" in str(refused(model, create("shufflenetv2_x0_5").state_dict()).value)
    caught = refused(create("resnet8"), {"fc.weight": torch.zeros(3)})
    assert caught.type is SettingsError
    assert "not ResNetCifar" in str(caught.value)
    with pytest.raises(SettingsError, match="not ResNetCifar"):
        reference_state_dict(create("resnet8"))
    with pytest.raises(SettingsError, match=r"nothing like stages\.0\.0\.main\.1\.se\..*without se=True"):
        reference_state_dict(create("resnet18", activation="acon-c", se=True))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "holds no weights: expected tensors by name, got {}"),
        ({"state_dict": 3}, "holds no weights: expected tensors by name, got 3"),
        ({"model": {}}, "holds a dict under 'model'"),
        ({1: torch.zeros(1)}, "holds a Tensor under 1"),
    ],
)
def test_what_is_no_state_dict(content, says):
    caught = refused(create("shufflenetv2_x0_5"), content)
    assert caught.type is StateDictError
    assert says in str(caught.value)


def test_a_path(of_acon, tmp_path):
    file = tmp_path / "shufflenet.pth.tar"
    torch.save({"state_dict": of_acon}, file)
    model = create("shufflenetv2_x0_5", activation="acon-c")
    for path in (file, str(file)):
        assert torch.equal(load_reference(model, path).stem.act.p1, of_acon["first_conv.2.p1"].flatten())
    assert refused(model, tmp_path / "absent.pth").type is CheckpointError
