from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import aconite

transformers = pytest.importorskip("transformers")
from aconite.integrations.transformers import from_pretrained  # noqa: E402

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {"input_ids": torch.arange(14).reshape(2, 7)}
IMAGES = {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}


def bert(act: str) -> Any:
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, vocab_size=50, hidden_act=act)), TEXT


def llama(act: str) -> Any:
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, vocab_size=50, hidden_act=act)
    return transformers.LlamaForCausalLM(config), TEXT


def vit(act: str) -> Any:
    config = transformers.ViTConfig(**SIZES, image_size=16, patch_size=8, num_labels=3, hidden_act=act)
    return transformers.ViTForImageClassification(config), IMAGES


def layers(model: torch.nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, aconite.AconC)]


MODELS = pytest.mark.parametrize("build", [bert, llama, vit])


@MODELS
def test_a_step_trains_every_layer(build: Any) -> None:
    model, inputs = build("acon-c")
    optimiser = torch.optim.SGD(aconite.param_groups(model, 1e-4), lr=0.1)
    model.train()(**inputs).logits.square().mean().backward()
    found = layers(model)
    assert len(found) == len({id(layer) for layer in found}) >= 2
    assert found[0].p1.shape == found[1].p1.shape == (24,)
    before = found[0].p1.detach().clone()
    optimiser.step()
    assert not torch.equal(before, found[0].p1)


@MODELS
def test_saved_and_loaded(build: Any, tmp_path: Path) -> None:
    model, inputs = build("acon-c")
    wanted = model.eval()(**inputs).logits
    model.save_pretrained(tmp_path)
    examples = inputs if build is vit else None
    again = from_pretrained(type(model), tmp_path, example_inputs=examples)
    assert torch.equal(again(**inputs).logits, wanted)
    assert all(parameter.device.type == "cpu" for parameter in again.parameters())


def test_weights_of_another_activation(tmp_path: Path) -> None:
    plain, inputs = bert("gelu")
    plain.save_pretrained(tmp_path)
    model = from_pretrained(type(plain), tmp_path, hidden_act="acon-c")
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert [layer.channels for layer in layers(model)] == [24, 24, 16]  # the last one is the head's
    for layer in layers(model):
        assert torch.equal(layer.beta, torch.ones_like(layer.beta))
        assert 0.3 < layer.p1.std() < 2
    model.save_pretrained(tmp_path / "again")  # its widths are known: no forward is needed
    assert torch.equal(from_pretrained(type(plain), tmp_path / "again")(**inputs).logits, model.eval()(**inputs).logits)


def test_a_converted_model_is_saved_and_loaded(tmp_path: Path) -> None:
    plain, inputs = bert("silu")
    model, changes = aconite.convert(plain.eval(), "acon-c", example_inputs=inputs)
    assert [row.now for row in changes] == ["AconC"] * 3
    wanted = model(**inputs).logits
    assert torch.allclose(wanted, plain(**inputs).logits, atol=1e-5)
    model.config.hidden_act = "acon-c"
    model.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(type(plain), tmp_path)(**inputs).logits, wanted)


def test_examples_that_do_not_suit_the_model(tmp_path: Path) -> None:
    model, inputs = vit("acon-c")
    model(**inputs)
    model.save_pretrained(tmp_path)
    with pytest.raises(aconite.errors.SettingsError, match="example_inputs"):
        from_pretrained(type(model), tmp_path)  # dummy_inputs are text


def test_only_pointwise_activations_are_registered() -> None:
    from transformers.activations import ACT2FN

    assert isinstance(ACT2FN["silu"], torch.nn.Module)
    for name in ("acon-a", "acon-b", "acon-c", "maxout", "meta-acon-pixel"):
        layer = ACT2FN[name]
        assert layer is not ACT2FN[name]
        with torch.no_grad():
            x = torch.randn(2, 5, 6)
            assert torch.allclose(layer(x)[:, :2], layer(x[:, :2]), atol=1e-6), name  # no look at other positions
    for name in ("meta-acon", "meta-acon-layer", "se-relu"):
        assert name not in ACT2FN
