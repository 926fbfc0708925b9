from __future__ import annotations

from typing import Any

import pytest

from aconite.errors import SettingsError, UnknownNameError
from aconite.lab import CompareSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"batch_size": 1}, "batch_size is 1: it must be a whole number, at least 2"),
        ({"lr": 0.0}, "lr is 0.0: it must be a number above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"image_size": 4}, "image_size is 4: it must be a whole number, at least 8"),
        ({"init": "papr"}, "init is 'papr': choose one of paper, swish, near-swish"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"activations": ()}, "activations is empty"),
        ({"activations": ("relu", "relu")}, "'relu' is named twice"),
    ],
)
def test_value_that_is_not_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        CompareSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "nearest"), [({"model": "resnet-8"}, "resnet8"), ({"activations": ("relu", "meta-acn")}, "meta-acon")]
)
def test_unknown_name_suggests_the_nearest(changes: dict[str, Any], nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{nearest}'"):
        CompareSettings(**changes)


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="no CUDA device"):
        CompareSettings(device="cuda")
    assert CompareSettings(device="auto").resolved_device == "cpu"


def test_baseline_is_relu_or_the_first() -> None:
    assert CompareSettings(activations=("silu", "relu")).baseline == "relu"
    assert CompareSettings(activations=("silu", "gelu")).baseline == "silu"
