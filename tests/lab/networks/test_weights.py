"""Pretrained weights before and after conversion, in whole networks and in backbones."""

from __future__ import annotations

import pytest
import torch

from aconite.errors import CheckpointError, StateDictError
from aconite.lab.networks import backbone, classifier, pspnet, retinanet
from aconite.lab.networks.weights import load_weights
from aconite.models import create
from aconite.nn import AconC

SMALL = {"classes": 3, "image_size": 32}
DETECTOR = {"fpn_channels": 16, "head_convs": 1, "side": 64}


@pytest.fixture
def saved(tmp_path):
    """Saves a state dict, as it is or otherwise, and returns the file's path."""

    def save(content, name="weights.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def same(network, state):
    """Which entries of the network's state are not the file's."""
    return {
        key for key, value in network.state_dict().items() if key not in state or not torch.equal(value, state[key])
    }


@pytest.mark.parametrize("model", ["resnet8", "timm/test_resnet", "torchvision/shufflenet_v2_x0_5"])
def test_after_conversion(model, saved):
    torch.manual_seed(0)
    state = classifier(model, activation="acon-c", **SMALL).state_dict()
    told = []
    torch.manual_seed(1)
    network = classifier(model, activation="acon-c", **SMALL, weights=saved(state), tell=told.append)
    assert same(network, state) == set()
    assert told == []
    with pytest.raises(StateDictError, match=r"missing: .*\.p1, .*\.beta.*; only activations .*-stage before$"):
        classifier(
            model, activation="acon-c", **SMALL, weights=saved(classifier(model, activation=None, **SMALL).state_dict())
        )


@pytest.mark.parametrize("activation", ["acon-c", "meta-acon"])
@pytest.mark.parametrize("model", ["resnet8", "timm/resnet18", "torchvision/shufflenet_v2_x0_5"])
def test_before_conversion(model, activation, saved):
    torch.manual_seed(0)
    stock = classifier(model, activation=None, **SMALL)
    torch.manual_seed(1)
    network = classifier(
        model, activation=activation, **SMALL, weights=saved(stock.state_dict()), weights_stage="before"
    )
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in stock.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    expected, got = stock.eval()(images), network.eval()(images)
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(got, expected, rtol=0, atol=0.25 * scale)
    assert not torch.equal(got, expected)
    with pytest.raises(StateDictError, match="unexpected: "):
        classifier(model, activation=None, **SMALL, weights=saved(state))


def test_before_means_match_without_a_file_too():
    network = classifier("resnet8", activation="acon-c", **SMALL, weights_stage="before")
    layer = next(module for module in network.modules() if isinstance(module, AconC))
    assert torch.equal(layer.p1, torch.ones_like(layer.p1))
    assert layer.beta[0].item() == pytest.approx(27.846, abs=1e-3)


def test_another_number_of_classes(saved):
    state = classifier("resnet8", activation="acon-c", **SMALL).state_dict()
    told = []
    network = classifier(
        "resnet8", activation="acon-c", classes=5, image_size=32, weights=saved(state), tell=told.append
    )
    assert same(network, state) == {"classifier.weight", "classifier.bias"}
    assert told == [f"{saved(state)}: left out classifier.weight, classifier.bias"]
    with pytest.warns(UserWarning, match="left out fc.weight, fc.bias"):
        classifier(
            "timm/test_resnet", activation="relu", classes=5, image_size=32,
            weights=saved(classifier("timm/test_resnet", activation="relu", **SMALL).state_dict()),
        )  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "network.", "network._orig_mod.", "module.", "model."])
@pytest.mark.parametrize("holder", [None, "state_dict", "model"])
def test_what_checkpoints_look_like(holder, prefix, saved):
    network = create("resnet8", num_classes=3, stem="small")
    state = {prefix + key: value for key, value in network.state_dict().items()}
    if prefix.startswith("network."):
        state["sums"] = torch.zeros(4)  # a metric's
    path = saved({holder: state, "epoch": 3} if holder else state)
    again = classifier("resnet8", activation="relu", **SMALL, weights=path)
    assert same(again, network.state_dict()) == set()


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    state = create("resnet8", num_classes=3, stem="small").state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    again = classifier("resnet8", activation="relu", **SMALL, weights=tmp_path / "weights.safetensors")
    assert same(again, state) == set()


def test_the_counts_of_batches_may_be_missing(saved):
    state = create("resnet8", num_classes=3, stem="small").state_dict()
    state = {key: value + 1 for key, value in state.items() if not key.endswith("num_batches_tracked")}
    again = classifier("resnet8", activation="relu", **SMALL, weights=saved(state))
    assert all(key.endswith("num_batches_tracked") for key in same(again, state))


def test_another_network_is_an_error_that_lists(saved):
    state = create("resnet8", num_classes=3, stem="small").state_dict()
    del state["stem.conv.weight"]
    state["nonsense"] = torch.zeros(1)
    with pytest.raises(StateDictError, match=r"missing: stem\.conv\.weight; unexpected: nonsense$"):
        classifier("resnet8", activation="relu", **SMALL, weights=saved(state))
    with pytest.raises(StateDictError, match=r"of another network; missing: .* and \d+ more"):
        classifier("resnet20", activation="relu", **SMALL, weights=saved(create("resnet8", num_classes=3).state_dict()))
    with pytest.raises(StateDictError, match=r"of another shape: .*stem\.conv\.weight.*"):
        classifier("resnet8", activation="relu", channels=1, **SMALL,
                   weights=saved(create("resnet8", num_classes=3).state_dict()))  # fmt: skip
    large = saved(create("resnet18", num_classes=3, stem="imagenet").state_dict())
    with pytest.raises(StateDictError, match=r"of another shape: .*; its stem is for images of another size"):
        classifier("resnet18", activation="acon-c", **SMALL, weights=large, weights_stage="before")
    shallow = saved(create("resnet8", num_classes=3, stem="small").state_dict())
    with pytest.raises(StateDictError, match=r"missing: [^;]*more$"):  # whole blocks, not their activations alone
        classifier("resnet20", activation="acon-c", **SMALL, weights=shallow)
    with pytest.raises(CheckpointError, match="there is no file"):
        classifier("resnet8", activation="relu", **SMALL, weights="nowhere.pt")


MODELS = ["shufflenetv2_x0_5", "timm/mobilenetv3_small_050", "torchvision/shufflenet_v2_x0_5"]


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("model", MODELS)
def test_a_backbone_takes_a_classification_networks_file(model, stage, saved):
    torch.manual_seed(0)
    activation = "acon-c" if stage == "after" else None
    whole = classifier(model, activation=activation, classes=9, image_size=224, tell=[].append)
    state, told = whole.state_dict(), []
    path = saved(state)
    torch.manual_seed(1)
    body = backbone(model, activation="acon-c", weights=path, weights_stage=stage, tell=told.append)
    own = {key.removeprefix("model."): value for key, value in body.state_dict().items()}
    left = {key for key in own if key not in state}
    assert all(torch.equal(own[key], state[key]) for key in own.keys() - left)
    assert all(key.endswith((".p1", ".p2", ".beta")) for key in left)
    assert bool(left) == (stage == "before")
    assert len(told) == 1
    assert "left out" in told[0]


@pytest.mark.parametrize("model", ["shufflenetv2_x0_5", "timm/resnet18", "torchvision/shufflenet_v2_x0_5"])
def test_detection_and_segmentation_take_it_too(model, saved):
    state = classifier(model, activation="swish", classes=9).state_dict()
    path = saved(state)
    for network, prefix in (
        (retinanet(model, activation="swish", classes=2, everywhere=True, **DETECTOR, weights=path, tell=[].append),
         "backbone.body."),
        (pspnet(model, activation="swish", classes=2, everywhere=True, width=16, weights=path, tell=[].append),
         "body."),
    ):  # fmt: skip
        own = {
            key.removeprefix(prefix).removeprefix("model."): value
            for key, value in network.state_dict().items()
            if key.startswith(prefix)
        }
        assert len(own) > 50
        assert all(torch.equal(value, state[key]) for key, value in own.items())


def test_a_whole_detector(saved):
    state = retinanet("shufflenetv2_x0_5", activation="acon-c", classes=2, **DETECTOR).state_dict()
    path, told = saved({"state_dict": {f"network.{key}": value for key, value in state.items()}}), []
    again = retinanet("shufflenetv2_x0_5", activation="acon-c", classes=2, **DETECTOR, weights=path, tell=told.append)
    assert same(again, state) == set()
    other = retinanet("shufflenetv2_x0_5", activation="acon-c", classes=7, **DETECTOR, weights=path, tell=told.append)
    scores = {f"head.classification_head.cls_logits.{entry}" for entry in ("weight", "bias")}
    assert same(other, state) == scores
    assert len(told) == 1


def test_a_whole_pspnet_before_conversion(saved):
    state = pspnet("shufflenetv2_x0_5", activation="relu", classes=2, width=16).state_dict()
    told = []
    again = pspnet("shufflenetv2_x0_5", activation="acon-c", everywhere=True, classes=4, width=16, weights=saved(state),
                   weights_stage="before", tell=told.append)  # fmt: skip
    changed = same(again, state)
    scores = {f"{head}.score.{entry}" for head in ("head", "auxiliary") for entry in ("weight", "bias")}
    assert scores <= changed
    assert all(key.endswith((".p1", ".p2", ".beta")) for key in changed - scores)
    assert "head.score.weight" in told[0]


def test_what_is_left_out_is_returned(saved):
    network = create("resnet8", num_classes=3)
    state = create("resnet8", num_classes=4).state_dict()
    left_out = load_weights(network, saved(state))
    assert left_out == ("classifier.weight", "classifier.bias")
    assert same(network, state) == set(left_out)


def test_scores_of_other_features_are_another_networks(saved):
    """Only the number of classes may differ."""
    state = create("resnet8", num_classes=4).state_dict()
    state["classifier.weight"] = torch.zeros(4, state["classifier.weight"].shape[1] + 1)
    with pytest.raises(StateDictError, match=r"of another shape: .*classifier\.weight"):
        load_weights(create("resnet8", num_classes=3), saved(state))
