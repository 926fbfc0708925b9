"""The paper's results (its section 4) as data; ImageNet top-1 errors are in %, at 224×224 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aconite.errors import UnknownNameError
from aconite.lab.tables.printed import PublishedRow, PublishedTable

__all__ = ["published_table", "published_tables"]


def published_tables() -> Mapping[str, PublishedTable]:
    """Every table, by the name that `aconite table` takes.

    >>> list(published_tables())
    ['3', 'meta', 'activations', 'tfnet', 'detection', 'segmentation', 'figure1']
    """
    return {table.name: table for table in _TABLES}


def published_table(name: str) -> PublishedTable:
    """The table of this name.

    Raises:
        UnknownNameError: there is none; the message lists them.

    >>> [row.figures["error"] for row in published_table("3").rows[:4]]
    [39.4, 38.3, 38.0, 37.0]
    """
    tables = published_tables()
    if name not in tables:
        raise UnknownNameError("table", name, tables)
    return tables[name]


def _row(network: str, activation: str, error: float | None = None, **more: Any) -> PublishedRow:
    label, multiply_adds, parameters = _NETWORKS[network]
    given: dict[str, Any] = {
        "label": label,
        "group": label,
        "multiply_adds": multiply_adds,
        "parameters": parameters,
        "figures": {} if error is None else {"error": error},
    }
    return PublishedRow(network=network, activation=activation, **given | more)


_NETWORKS: dict[str, tuple[str, str | None, str | None]] = {  # label, multiply-adds, parameters; the latter with ReLU
    "shufflenetv2_x0_5": ("ShuffleNetV2 0.5×", "41M", "1.4M"),
    "shufflenetv2_x1_0": ("ShuffleNetV2 1.0×", "146M", "2.3M"),
    "shufflenetv2_x1_5": ("ShuffleNetV2 1.5×", "299M", "3.5M"),
    "shufflenetv2_x2_0": ("ShuffleNetV2 2.0×", "591M", "7.4M"),
    "resnet18": ("ResNet-18", "1.8G", "11.7M"),
    "resnet50": ("ResNet-50", "3.9G", "25.5M"),
    "resnet101": ("ResNet-101", "7.6G", "44.4M"),
    "resnet152": ("ResNet-152", "11.3G", "60.0M"),
    "mobilenetv2_x0_17": ("MobileNetV2 0.17", "42M", "1.4M"),
    "mobilenetv2_x0_25": ("MobileNet 0.25 as V2", None, None),
    "mobilenetv2_x0_6": ("MobileNetV2 0.6", "141M", "2.2M"),
    "mobilenetv2_x1_0": ("MobileNetV2 1.0", "300M", "3.4M"),
    "mobilenetv2_x1_4": ("MobileNetV2 1.4", "585M", "5.5M"),
    "tfnet_0_5": ("TFNet 0.5", "43M", "1.3M"),
    "tfnet_1_0": ("TFNet 1.0", "135M", "1.9M"),
    "tfnet_1_5": ("TFNet 1.5", "279M", "2.7M"),
    "tfnet_2_0": ("TFNet 2.0", "474M", "3.8M"),
}

_ACON = {  # ReLU, ACON-A (Swish), ACON-B, ACON-C
    "shufflenetv2_x0_5": (39.4, 38.3, 38.0, 37.0),
    "shufflenetv2_x1_5": (27.4, 26.8, 26.8, 26.5),
    "resnet18": (30.3, 30.3, 29.4, 29.1),
    "resnet50": (24.0, 23.5, 23.3, 23.2),
    "resnet101": (22.8, 22.7, 22.3, 21.8),
    "resnet152": (22.3, 22.2, 21.7, 21.2),
}

_META = {  # Meta-ACON's error, multiply-adds and parameters
    "shufflenetv2_x0_5": (34.8, "41M", "1.7M"),
    "shufflenetv2_x1_5": (24.7, "299M", "3.9M"),
    "resnet50": (22.0, None, "25.7M"),
    "resnet101": (21.0, None, "44.8M"),
    "resnet152": (20.5, None, "60.5M"),
}

_GAINS = {  # Swish, SE, Meta-ACON
    "shufflenetv2_x1_5": (0.8, 1.0, 2.7),
    "resnet50": (0.5, 1.2, 2.0),
    "resnet101": (0.1, 0.9, 1.7),
    "resnet152": (0.1, 0.8, 1.8),
}

_BY_SIZE = (  # MobileNetV2 with ReLU, ShuffleNetV2 with ReLU, TFNet, which brings its own activation
    (("mobilenetv2_x0_17", 52.6), ("shufflenetv2_x0_5", 39.4), ("tfnet_0_5", 36.6)),
    (("mobilenetv2_x0_6", 33.3), ("shufflenetv2_x1_0", 30.6), ("tfnet_1_0", 29.7)),
    (("mobilenetv2_x1_0", 28.0), ("shufflenetv2_x1_5", 27.4), ("tfnet_1_5", 26.0)),
    (("mobilenetv2_x1_4", 25.3), ("shufflenetv2_x2_0", 25.0), ("tfnet_2_0", 24.3)),
)

_DETECTION = {
    "relu": (35.2, 53.7, 37.5, 18.8, 39.7, 48.8),
    "swish": (35.8, 54.1, 38.7, 18.6, 40.0, 49.4),
    "meta-acon": (36.5, 55.9, 38.9, 19.9, 40.7, 50.6),
}
_DETECTION_METRICS = ("mAP", "AP50", "AP75", "APs", "APm", "APl")

_SEGMENTATION = {"relu": 77.2, "swish": 77.5, "meta-acon": 78.3}


def _meta_row(network: str, **figures: float) -> PublishedRow:
    error, multiply_adds, parameters = _META[network]
    return _row(
        network,
        "meta-acon",
        multiply_adds=multiply_adds,
        parameters=parameters,
        figures=figures or {"error": error},
    )


def _acon_rows(network: str) -> list[PublishedRow]:
    names = ("relu", "acon-a", "acon-b", "acon-c")
    return [_row(network, name, error) for name, error in zip(names, _ACON[network], strict=True)]


def _meta_rows(network: str) -> list[PublishedRow]:
    relu, _, _, acon_c = _acon_rows(network)
    gains = {"gain": _GAINS[network][2]} if network in _GAINS else {}
    return [relu, acon_c, _meta_row(network, error=_META[network][0], **gains)]


def _figure_rows(network: str) -> list[PublishedRow]:
    swish, se, meta = _GAINS[network]
    return [
        _row(network, "relu"),
        _row(network, "swish", figures={"gain": swish}),
        _row(network, "relu", se=True, multiply_adds=None, parameters=None, figures={"gain": se}),
        _meta_row(network, gain=meta),
    ]


def _backbone_row(activation: str, label: str, figures: dict[str, float]) -> PublishedRow:
    return PublishedRow(label=label, network="resnet50", activation=activation, figures=figures, group=label)


_RIVALS = [
    _row("shufflenetv2_x0_5", name, error, multiply_adds=None, parameters=None)
    for name, error in (("mish", 39.5), ("elu", 39.5), ("softplus", 39.6))
]

_QUOTED = [  # in the abstract, as a gain alone of "MobileNet-0.25", without its version
    _row("mobilenetv2_x0_25", "relu"),
    _row("mobilenetv2_x0_25", "meta-acon", figures={"gain": 6.7}),
]

_TABLES = (
    PublishedTable(
        name="3",
        title="The ACON family on ImageNet (table 3)",
        rows=[row for network in _ACON for row in _acon_rows(network)],
    ),
    PublishedTable(
        name="meta",
        title="Meta-ACON on ImageNet (section 4)",
        metrics=("error", "gain"),
        rows=[row for network in _META for row in _meta_rows(network)] + _QUOTED,
    ),
    PublishedTable(
        name="activations",
        title="Other activations in ShuffleNetV2 0.5× on ImageNet (table 4)",
        rows=[
            *_acon_rows("shufflenetv2_x0_5")[:1],
            replace(_acon_rows("shufflenetv2_x0_5")[1], activation="swish"),
            *_RIVALS,
            *_acon_rows("shufflenetv2_x0_5")[3:],
            _meta_row("shufflenetv2_x0_5"),
        ],
    ),
    PublishedTable(
        name="tfnet",
        title="TFNet against light networks on ImageNet (section 4)",
        rows=[
            _row(network, "acon-frelu" if network.startswith("tfnet") else "relu", error, group=f"size {number}")
            for number, size in enumerate(_BY_SIZE, 1)
            for network, error in size
        ],
    ),
    PublishedTable(
        name="detection",
        title="RetinaNet with a ResNet-50 backbone on COCO (section 4)",
        task="detection",
        metrics=_DETECTION_METRICS,
        rows=[
            _backbone_row(name, "RetinaNet R50", dict(zip(_DETECTION_METRICS, values, strict=True)))
            for name, values in _DETECTION.items()
        ],
    ),
    PublishedTable(
        name="segmentation",
        title="PSPNet with a ResNet-50 backbone on Cityscapes (section 4)",
        task="segmentation",
        metrics=("mIoU",),
        rows=[_backbone_row(name, "PSPNet R50", {"mIoU": value}) for name, value in _SEGMENTATION.items()],
    ),
    PublishedTable(
        name="figure1",
        title="Gain over ReLU on ImageNet (figure 1)",
        metrics=("gain",),
        rows=[row for network in _GAINS for row in _figure_rows(network)],
    ),
)
