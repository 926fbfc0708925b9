from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import aconite

pytest.importorskip("huggingface_hub")
safetensors = pytest.importorskip("safetensors.torch")
from aconite.integrations.hub import HubNetwork  # noqa: E402


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("activation", ["relu", "acon-c", "meta-acon"])
def test_round_trip(tmp_path: Path, activation: str) -> None:
    network = HubNetwork("resnet8", activation=activation, num_classes=7, in_channels=1, stem="small")
    images = torch.randn(4, 1, 16, 16)
    network(images)  # moves the norms' statistics
    network.eval().save_pretrained(tmp_path)
    again = HubNetwork.from_pretrained(tmp_path)
    assert not again.training
    assert torch.equal(again(images), network(images))
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config == {
        "name": "resnet8", "activation": activation, "num_classes": 7, "in_channels": 1, "stem": "small",
    }  # fmt: skip


def test_the_weights_have_the_networks_own_keys(tmp_path: Path) -> None:
    network = HubNetwork("resnet8", activation="acon-c", num_classes=3, stem="small")
    network.save_pretrained(tmp_path)
    plain = aconite.models.create("resnet8", activation="acon-c", num_classes=3, stem="small")
    plain.load_state_dict(safetensors.load_file(tmp_path / "model.safetensors"))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(plain.eval()(images), network.eval()(images))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    HubNetwork("resnet8", num_classes=3).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text("utf-8").replace("resnet8", "resnet14"), "utf-8")
    with pytest.raises(RuntimeError, match="Missing key"):
        HubNetwork.from_pretrained(tmp_path)


def test_only_what_a_file_can_hold() -> None:
    with pytest.raises(aconite.errors.SettingsError, match="cannot be written"):
        HubNetwork("resnet8", activation=lambda channels: torch.nn.ReLU())  # type: ignore[arg-type]
    with pytest.raises(aconite.errors.UnknownNameError, match="resnet8"):
        HubNetwork("resnet9")
