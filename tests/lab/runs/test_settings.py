from __future__ import annotations

from typing import Any

import pytest

from aconite.errors import AconiteError
from aconite.lab.runs import ClassificationSettings, DetectionSettings, SegmentationSettings, options_of

SETTINGS = (ClassificationSettings, DetectionSettings, SegmentationSettings)


@pytest.mark.parametrize("record", SETTINGS)
def test_the_defaults_are_allowed(record: Any) -> None:
    settings = record(data="a", epochs=1)
    assert settings.steps is None
    for one in options_of(record):
        assert one.told
        assert not one.told.endswith(".")


@pytest.mark.parametrize(
    ("record", "given", "told"),
    [
        (ClassificationSettings, {"data": "", "epochs": 1}, "data is missing: name the folder"),
        (ClassificationSettings, {}, "neither is given; give one, such as --epochs 30"),
        (ClassificationSettings, {"epochs": 1, "steps": 2}, "both are given, 1 and 2"),
        (ClassificationSettings, {"epochs": 1, "activation": "acon"}, "unknown activation 'acon': did you mean 'acon-"),
        (ClassificationSettings, {"epochs": 1, "activation": None}, "resnet18 has no activation of its own"),
        (ClassificationSettings, {"epochs": 1, "model": "timm/resnet18", "se": True}, "se is for our own networks"),
        (ClassificationSettings, {"epochs": 1, "devices": "0"}, "devices is '0': it must be a whole number above 0"),
        (ClassificationSettings, {"epochs": 1, "batch_size": 6, "accumulate": 4}, "6 cannot be divided into 4 equal"),
        (ClassificationSettings, {"epochs": 1, "fuse": True, "sync_batchnorm": True}, "a fused norm cannot share"),
        (ClassificationSettings, {"epochs": 1, "log_activations": 5, "loggers": ()}, "without a logger"),
        (ClassificationSettings, {"epochs": 1, "strategy": "fsdp", "clip_norm": 1.0}, "give --clip-norm none"),
        (
            ClassificationSettings,
            {"epochs": 1, "strategy": "fsdp_cpu_offload", "log_activations": 5},
            "no process holds a whole activation",
        ),
        (ClassificationSettings, {"epochs": 1, "crop_scale": (1.0, 0.5)}, "the least comes first"),
        (SegmentationSettings, {"epochs": 1, "scale": (2.0, 0.5)}, "the least comes first"),
        (SegmentationSettings, {"epochs": 1, "crop": (64,)}, "it must be 2 whole numbers"),
        (SegmentationSettings, {"epochs": 1, "bins": ()}, "bins is empty"),
        (DetectionSettings, {"epochs": 1, "anchor_sizes": (8, 16)}, "it must be 5 whole numbers"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_line(record: Any, given: dict[str, Any], told: str) -> None:
    with pytest.raises(AconiteError) as raised:
        record(**({"data": "a"} | given))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_recorded_is_what_decides_the_outcome() -> None:
    settings = SegmentationSettings(data="/home/me/camvid", epochs=1, weights="/home/me/resnet.pt", devices="2")
    record = settings.recorded("camvid", "sha256:0")
    assert (record["task"], record["data"], record["content"]) == ("segmentation", "camvid", "sha256:0")
    assert record["weights"] == "resnet.pt"
    assert record["bins"] == [1, 2, 3, 6]
    assert "/home/me" not in repr(record)
    place = {"accelerator", "devices", "nodes", "strategy", "workers", "loggers", "log_activations", "checkpoint_every",
             "full_check"}  # fmt: skip
    assert {one.name for one in options_of(SegmentationSettings)} - record.keys() == place


def test_rows_tell_how_a_converted_network_starts() -> None:
    for stage, init in (("before", "match"), ("after", "paper")):
        settings = ClassificationSettings(data="a", epochs=1, weights="resnet.pt", weights_stage=stage)
        assert settings.recorded("a", "")["init"] == init


def test_what_a_network_counts_with_that_diverged() -> None:
    assert [record.guessing(4) for record in SETTINGS] == [75.0, 0.0, 0.0]
