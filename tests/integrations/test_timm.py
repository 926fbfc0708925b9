from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import nn

import aconite

timm = pytest.importorskip("timm")
from aconite.integrations import timm as ours  # noqa: E402
from aconite.nn import ChannelModule  # noqa: E402

NAMES = aconite.models.list_models()


def widths(model: nn.Module, images: torch.Tensor, channel_dim: int = 1) -> dict[str, tuple[int, int]]:
    """path of each of our layers → (p1.numel(), the width it sees)."""
    seen: dict[str, tuple[int, int]] = {}

    def note(path: str, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[path] = (layer.p1.numel(), inputs[0].shape[channel_dim])

    model(images)
    for path, module in model.named_modules():
        if isinstance(module, ChannelModule):
            module.register_forward_pre_hook(lambda m, x, path=path: note(path, m, x))
    model(images)
    return seen


@pytest.mark.parametrize(
    "name",
    ["shufflenetv2_x0_5", "resnet8", "resnet50", "mobilenetv2_x0_25", "tfnet_0_5"],
)
def test_registered_networks_compute_what_ours_compute(name: str) -> None:
    torch.manual_seed(0)
    plain = aconite.models.create(name, activation="acon-c", num_classes=7).eval()
    torch.manual_seed(0)
    theirs = timm.create_model(f"aconite_{name}", activation="acon-c", num_classes=7).eval()
    assert list(theirs.state_dict()) == list(plain.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(theirs(images), plain(images))


def test_every_network_is_listed() -> None:
    assert set(timm.list_models("aconite_*")) == {f"aconite_{name}" for name in NAMES}
    assert {f"aconite_{name}" for name in NAMES} <= set(ours.__all__)
    assert all(hasattr(ours, name) for name in ours.__all__)


def test_what_timm_users_call() -> None:
    model = timm.create_model("aconite_shufflenetv2_x0_5", activation="meta-acon", num_classes=10, in_chans=1)
    images = torch.randn(2, 1, 64, 64)
    features = model.forward_features(images)
    assert features.shape == (2, 1024, 2, 2)
    assert model.num_features == model.get_classifier().in_features == 1024
    model.eval()
    features = model.forward_features(images)
    assert torch.equal(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
    assert torch.equal(model.forward_head(features), model(images))
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)
    assert model.num_classes == 3
    model.reset_classifier(0)
    assert torch.equal(model(images), features.mean((2, 3)))
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(again(images), model(images))
    assert timm.create_model("aconite_resnet8", num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 64)


def test_data_configuration() -> None:
    model = timm.create_model("aconite_resnet18")
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, 224, 224)
    assert isinstance(model.get_submodule(model.default_cfg["first_conv"]), nn.Conv2d)
    assert isinstance(model.get_submodule(model.default_cfg["classifier"]), nn.Linear)


def test_drop_rate_and_pool() -> None:
    model = timm.create_model("aconite_resnet8", drop_rate=0.5, num_classes=4)
    assert model.dropout.p == 0.5
    assert "dropout" not in "".join(model.state_dict())
    with pytest.raises(aconite.errors.SettingsError, match="global_pool='max'"):
        timm.create_model("aconite_resnet8", global_pool="max")
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model("aconite_resnet8", pretrained=True)


@pytest.mark.parametrize("out_indices", [None, (-2, -1), (0, 2)])
@pytest.mark.parametrize("name", ["shufflenetv2_x0_5", "resnet14", "tfnet_0_5", "mobilenetv2_x0_25"])
def test_features(name: str, out_indices: tuple[int, ...] | None) -> None:
    options = {} if out_indices is None else {"out_indices": out_indices}
    torch.manual_seed(0)
    model = timm.create_model(f"aconite_{name}", activation="acon-c", features_only=True, **options).eval()
    torch.manual_seed(0)
    wanted = aconite.models.create(name, activation="acon-c", features_only=True, out_indices=out_indices).eval()
    images = torch.randn(1, 3, 64, 64)
    maps = model(images)
    for given, own in zip(maps, wanted(images), strict=True):
        assert torch.equal(given, own)
    assert model.feature_info.channels() == [y.shape[1] for y in maps]
    assert model.feature_info.reduction() == [64 // y.shape[-1] for y in maps]
    assert set(model.state_dict()) <= set(aconite.models.create(name, activation="acon-c").state_dict())


CNNS = ["resnet18", "mobilenetv2_050", "efficientnet_lite0", "regnety_002", "mobilenetv3_small_050"]


@pytest.mark.parametrize("name", CNNS)
@pytest.mark.parametrize("act_layer", [aconite.AconC, "acon-c"])
def test_act_layer_learns_the_true_widths(name: str, act_layer: object) -> None:
    model = timm.create_model(name, act_layer=act_layer, num_classes=3).eval()
    seen = widths(model, torch.randn(1, 3, 32, 32))
    assert len(seen) >= 8
    assert all(own == true for own, true in seen.values()), seen


def test_act_layer_of_a_vggs_head() -> None:
    # It calls act_layer(True), ReLU's first argument.
    head = timm.models.vgg.ConvMlp(8, 24, 3, act_layer=aconite.AconC).eval()
    assert list(widths(head, torch.randn(1, 8, 5, 5)).values()) == [(24, 24)] * 2


def test_one_training_step_with_act_layer() -> None:
    model = timm.create_model("resnet18", act_layer=aconite.AconC, num_classes=3)
    optimiser = torch.optim.SGD(aconite.param_groups(model, 1e-4), lr=0.01)
    model(torch.randn(2, 3, 32, 32)).square().mean().backward()
    before = model.act1.p1.detach().clone()
    optimiser.step()
    assert model.act1.p1.shape == (64,)
    assert not torch.equal(before, model.act1.p1)


def test_token_models_need_the_channels_last() -> None:
    act_layer = functools.partial(aconite.AconC, channel_dim=-1)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
    model = timm.create_model("vit_tiny_patch16_224", act_layer=act_layer, **options).eval()
    seen = widths(model, torch.randn(2, 3, 32, 32), channel_dim=-1)
    assert list(seen.values()) == [(96, 96)] * 2


def test_timm_names_keep_their_meaning() -> None:
    assert type(timm.layers.create_act_layer("swish")) is nn.SiLU
    assert type(timm.layers.create_act_layer("identity", inplace=True)) is nn.Identity
    for name in ("acon-a", "acon-b", "acon-c", "maxout", "meta-acon-layer", "meta-acon-pixel"):
        first, second = (timm.layers.create_act_layer(name, inplace=True) for _ in range(2))
        assert type(first) is type(aconite.activation(name))
        assert first is not second


@pytest.mark.parametrize("name", ["meta-acon", "frelu", "acon-frelu", "se-relu"])
def test_activations_with_convolutions_say_what_to_write(name: str) -> None:
    with pytest.raises(aconite.errors.SettingsError, match=r"integrations\.timm\.create"):
        timm.create_model("resnet18", act_layer=name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_create_converts_with_the_true_widths(name: str) -> None:
    model, changes = ours.create(name, num_classes=3, init="paper", example_inputs=torch.randn(2, 3, 64, 64))
    converted = [row for row in changes if row.now == "AconC"]
    layers = [module for module in model.modules() if isinstance(module, aconite.AconC)]
    assert sorted(row.channels for row in converted) == sorted(layer.p1.numel() for layer in layers)
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert all(layer.p1.grad is not None and layer.p1.grad.isfinite().all() for layer in layers)


def test_create_matches_the_model_that_it_starts_from() -> None:
    images = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)
    before = timm.create_model("resnet10t", num_classes=3).eval()
    torch.manual_seed(0)
    after, changes = ours.create("resnet10t", num_classes=3, tolerance=1e-4, example_inputs=images)
    assert torch.allclose(before(images), after.eval()(images), atol=0.01)
    assert changes.output_deviation is not None
    assert changes.output_deviation < 0.01


def test_create_of_a_token_model_and_its_own_size() -> None:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
    model, changes = ours.create(
        "vit_tiny_patch16_224", example_inputs=torch.randn(2, 3, 32, 32), activation_options={"gate": "hard"}, **options
    )
    assert [row.channels for row in changes if row.now] == [96, 96]
    assert model.blocks[0].mlp.act.channel_dim in (-1, 2)
    assert model.blocks[0].mlp.act.gate == "hard"


def test_create_runs_on_the_models_own_image_size() -> None:
    _, changes = ours.create("mobilenetv3_small_050", init="swish", where=0, activation="swish")
    assert [row.now for row in changes if row.now] == ["AconA"]
