"""What a run is told: a frozen record for each task, checked where it is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from aconite.errors import SettingsError
from aconite.lab.runs.options import checked, option, options_of
from aconite.nn import check_activation

__all__ = ["ClassificationSettings", "DetectionSettings", "RunSettings", "SegmentationSettings"]

PLACE = (
    "accelerator", "devices", "nodes", "strategy", "workers", "loggers", "log_activations", "checkpoint_every",
    "full_check",
)  # fmt: skip
"""The settings that may differ when a run goes on: where and how it runs, not what comes out."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What all tasks share. ``batch_size`` counts the images of an optimiser step over all devices and accumulated
    batches, so that the same settings train the same network on one device or on eight.

    Raises:
        SettingsError: a value that is not allowed, or two that do not go together.
        UnknownNameError: an activation that does not exist.
    """

    task: ClassVar[str] = ""
    metric: ClassVar[str] = ""  # by which runs are compared

    data: str = option("", "the folder of the data set")
    problems: Literal["stop", "skip"] = option("stop", "at what is wrong with the data: stop, or skip and count it")
    full_check: bool = option(False, "decode every image before the start, not only its header and end")
    model: str = option("resnet18", "a network of ours, or timm/NAME or torchvision/NAME")
    activation: str | None = option("acon-c", "a name or a formula; none keeps a foreign network's own")
    init: Literal["paper", "swish", "near-swish", "match"] = option(
        "paper", "start of learnable activations; match: as the activation in whose place they are"
    )
    se: bool = option(False, "squeeze-and-excitation at the end of each block (our networks)")
    weights: str | None = option(None, "file of pretrained weights to start from")
    weights_stage: Literal["before", "after"] = option(
        "after", "which network the weights fit: before or after it gets its activation; before makes init match"
    )
    seed: int = option(0, "of weights, order and augmentation", lowest=0)
    epochs: int | None = option(None, "passes over the training images", lowest=1)
    steps: int | None = option(None, "optimiser steps, in place of epochs", lowest=1)
    batch_size: int = option(32, "images of an optimiser step, over all devices", lowest=1)
    accumulate: int = option(1, "backward passes that make a step", lowest=1)
    optimiser: str = option("sgd", "the optimiser", choices=("sgd", "adamw"))
    lr: float = option(0.1, "highest learning rate", above=0)
    activation_lr: float | None = option(None, "learning rate of the activations' parameters, if another", above=0)
    momentum: float = option(0.9, "of sgd", lowest=0, highest=1)
    weight_decay: float = option(1e-4, "of what decay says", lowest=0)
    decay: Literal["weights", "all"] = option(
        "weights", "what decays: weights, or all (biases and norms too, but not those of activations)"
    )
    schedule: str = option("cosine", "how the rate falls", choices=("constant", "cosine", "linear", "poly", "steps"))
    milestones: tuple[float, ...] = option((0.667, 0.889), "shares of the training after which schedule steps divides "
                                           "the rate by 10", above=0, highest=1)  # fmt: skip
    warmup: int = option(0, "steps in which the rate rises to its height", lowest=0)
    warmup_from: float = option(0.001, "share of the rate at which warm-up begins", lowest=0, highest=1)
    clip_norm: float | None = option(None, "largest norm of the gradient", above=0)
    validate_every: int = option(1, "epochs from one evaluation to the next; the last is always evaluated", lowest=1)
    checkpoint_every: int | None = option(None, "steps between checkpoints within an epoch; at its end there always "
                                          "is one", lowest=1)  # fmt: skip
    accelerator: str = option("auto", "auto, cpu, gpu, …, as Lightning names it")
    devices: str = option("1", "how many on each machine, or auto; torchrun and srun say it themselves")
    nodes: int = option(1, "machines; torchrun and srun say it themselves", lowest=1)
    strategy: str = option("auto", "how devices share the work: auto, ddp, fsdp, …, as Lightning names it")
    precision: str = option(
        "32-true", "of the arithmetic, as Lightning names it", choices=("32-true", "16-mixed", "bf16-mixed", "64-true")
    )
    sync_batchnorm: bool = option(False, "BatchNorm over the images of all devices (GPUs only)")
    channels_last: bool = option(False, "keep images and weights in channels_last memory format")
    fuse: bool = option(False, "fuse BatchNorm and activation (see `aconite.fuse`)")
    compile: bool = option(False, "torch.compile the network")
    workers: int = option(0, "processes on each device that read images", lowest=0)
    loggers: tuple[str, ...] = option(("csv",), "what writes the curves of the training; a list, or none",
                                      choices=("csv", "tensorboard"))  # fmt: skip
    log_activations: int | None = option(None, "steps between logs of p1, p2, β and dead units of the activations",
                                         lowest=1)  # fmt: skip

    def __post_init__(self) -> None:
        given = {one.name: getattr(self, one.name) for one in options_of(type(self))}
        for name, value in checked(type(self), given, "").items():
            object.__setattr__(self, name, value)
        if self.weights_stage == "before":
            object.__setattr__(self, "init", "match")  # as `aconite.lab.networks` has it: rows tell what was done
        if not self.data:
            raise SettingsError("data is missing: name the folder of a data set with --data")
        if (self.epochs is None) == (self.steps is None):
            came = "neither is given" if self.epochs is None else f"both are given, {self.epochs} and {self.steps}"
            raise SettingsError(f"a run lasts for epochs or for steps: {came}; give one, such as --epochs 30")
        if self.activation is not None:
            check_activation(self.activation)
        elif "/" not in self.model:
            raise SettingsError(f"activation is none, but {self.model} has no activation of its own: name one")
        if self.se and "/" in self.model:
            raise SettingsError(f"se is for our own networks, and {self.model} is not: leave it away")
        if self.devices != "auto" and not (self.devices.isdecimal() and int(self.devices) > 0):
            raise SettingsError(f"devices is {self.devices!r}: it must be a whole number above 0, or auto")
        if self.batch_size % self.accumulate:
            raise SettingsError(f"batch_size {self.batch_size} cannot be divided into {self.accumulate} equal batches")
        if self.fuse and self.sync_batchnorm:
            raise SettingsError("fuse and sync_batchnorm: a fused norm cannot share its statistics; leave one away")
        if self.strategy.startswith("fsdp") and self.clip_norm is not None:
            raise SettingsError("clip_norm and strategy fsdp: Lightning cannot clip what FSDP has divided; give "
                                "--clip-norm none, or --strategy ddp")  # fmt: skip
        if self.strategy.startswith("fsdp") and self.log_activations:
            raise SettingsError("log_activations and strategy fsdp: no process holds a whole activation; leave "
                                "--log-activations away, or give --strategy ddp")  # fmt: skip
        if self.log_activations and not self.loggers:
            raise SettingsError("log_activations without a logger: give --loggers csv, or leave it away")

    @classmethod
    def guessing(cls, classes: int) -> float:
        """The metric with which a training counts that diverged: that of guessing."""
        return 0.0

    def recorded(self, name: str, content: str) -> dict[str, Any]:
        """The settings as rows and run folders hold them: what decides the outcome, with the data and the weights by
        name and not by folder.
        """
        record = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        for key in PLACE:
            del record[key]
        if self.weights is not None:
            record["weights"] = self.weights.replace("\\", "/").rpartition("/")[2]
        return {"task": self.task} | record | {"data": name, "content": content}


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(RunSettings):
    """Image classification: folders ``train/<class>/*`` and ``test/<class>/*`` (or ``val``), ImageNet's among them, and
    data sets of Hugging Face.
    """

    task: ClassVar[str] = "classification"
    metric: ClassVar[str] = "error"

    data: str = option("", "the folder of the data set; or hf:NAME, a data set of Hugging Face on disk or on the Hub")
    image_size: int = option(224, "side of the square that the network sees", lowest=8)
    resize_side: int | None = option(None, "shorter side before the middle is cut out (default: 8/7 of it)", lowest=8)
    crop: str = option("resized", "training crops: resized (a random share of the image) or pad (4 pixels around it)",
                       choices=("resized", "pad"))  # fmt: skip
    crop_scale: tuple[float, ...] = option((0.08, 1.0), "least and most of the image's area that a crop covers",
                                           above=0, highest=1, count=2)  # fmt: skip
    colour_jitter: float = option(0.0, "of brightness, contrast and saturation", lowest=0)
    flip: float = option(0.5, "how often an image is mirrored", lowest=0, highest=1)
    values: str = option("imagenet", "what the network is fed: normalised RGB, or BGR from 0 to 255 as the reference "
                         "code", choices=("imagenet", "bgr255"))  # fmt: skip
    label_smoothing: float = option(0.0, "of the training loss", lowest=0, highest=0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order("crop_scale", self.crop_scale)

    @classmethod
    def guessing(cls, classes: int) -> float:
        return 100 * (1 - 1 / classes)


@dataclass(frozen=True, kw_only=True)
class DetectionSettings(RunSettings):
    """Object detection by RetinaNet: COCO or Pascal VOC."""

    task: ClassVar[str] = "detection"
    metric: ClassVar[str] = "map"

    model: str = option("resnet50", "the backbone: a network of ours, or timm/NAME or torchvision/NAME")
    everywhere: bool = option(False, "the activation in the heads too, not in the backbone alone")
    freeze_norms: bool = option(False, "BatchNorms keep their statistics and weights")
    freeze_stem: bool = option(False, "all before the map of stride 4 stays as it is, activations too")
    side: int = option(800, "shorter side of the images", lowest=32)
    longest: int = option(1333, "most that the longer side may have", lowest=32)
    flip: float = option(0.5, "how often an image is mirrored", lowest=0, highest=1)
    fpn_channels: int = option(256, "channels of the feature pyramid", lowest=8)
    head_convs: int = option(4, "convolutions in each head", lowest=1)
    anchor_sizes: tuple[int, ...] = option((32, 64, 128, 256, 512), "sides of the anchors on the pyramid's five "
                                           "levels, in pixels", lowest=1, count=5)  # fmt: skip
    box_beta: float = option(0.0, "error of a box below which its loss is quadratic; 0 for L1", lowest=0)
    allow_empty: bool = option(False, "train on images without objects too")
    lr: float = option(0.01, "highest learning rate", above=0)
    batch_size: int = option(16, "images of an optimiser step, over all devices", lowest=1)
    schedule: str = option("steps", "how the rate falls", choices=("constant", "cosine", "linear", "poly", "steps"))
    warmup: int = option(500, "steps in which the rate rises to its height", lowest=0)


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings(RunSettings):
    """Semantic segmentation by PSPNet: folders of images and masks, or Cityscapes."""

    task: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "miou"

    model: str = option("resnet50", "the backbone: a network of ours, or timm/NAME or torchvision/NAME")
    everywhere: bool = option(False, "the activation in the head too, not in the backbone alone")
    freeze_norms: bool = option(False, "BatchNorms keep their statistics and weights")
    crop: tuple[int, ...] = option((473, 473), "height and width of the training crops", lowest=32, count=2)
    scale: tuple[float, ...] = option((0.5, 2.0), "least and most by which training images are scaled", above=0,
                                      count=2)  # fmt: skip
    rotation: float = option(10.0, "most degrees by which training images are turned", lowest=0)
    turn: float = option(1.0, "how often an image is turned", lowest=0, highest=1)
    blur: float = option(0.0, "how often an image is blurred", lowest=0, highest=1)
    flip: float = option(0.5, "how often an image is mirrored", lowest=0, highest=1)
    head_width: int = option(512, "channels of the head", lowest=8)
    bins: tuple[int, ...] = option((1, 2, 3, 6), "sides of the pooled maps", lowest=1)
    dropout: float = option(0.1, "in the head", lowest=0, highest=0.99)
    auxiliary: float = option(0.4, "weight of the auxiliary loss; 0 for none", lowest=0)
    ignore_index: int = option(255, "value of pixels that belong to no class", lowest=0)
    evaluation_side: int | None = option(None, "shorter side to which test images are resized (default: as they are)",
                                         lowest=32)  # fmt: skip
    window: tuple[int, ...] | None = option(None, "height and width of the windows, overlapping by a third, in which "
                                            "the network sees test images (default: the whole image)",
                                            lowest=32, count=2)  # fmt: skip
    evaluate_flipped: bool = option(False, "test images are seen mirrored too, and both answers averaged")
    lr: float = option(0.01, "highest learning rate", above=0)
    head_rate: float = option(1.0, "learning rate of the heads, as a multiple of the backbone's", above=0)
    batch_size: int = option(16, "images of an optimiser step, over all devices", lowest=1)
    schedule: str = option("poly", "how the rate falls", choices=("constant", "cosine", "linear", "poly", "steps"))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order("scale", self.scale)
        if not self.bins:
            raise SettingsError("bins is empty: give the side of one pooled map at least, such as --bins 1,2,3,6")


def _check_order(name: str, pair: tuple[float, ...]) -> None:
    if pair[0] > pair[1]:
        raise SettingsError(f"{name} is {list(pair)}: the least comes first")
