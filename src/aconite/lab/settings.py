"""What a comparison is told: one frozen record, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from aconite.errors import SettingsError, UnknownNameError
from aconite.models import list_models
from aconite.nn import check_activation

__all__ = ["CompareSettings"]

_CHOICES = {
    "schedule": ("cosine", "linear"),
    "init": ("paper", "swish", "near-swish"),
    "device": ("auto", "cpu", "cuda"),
}
_LOWEST_COUNTS = {"seeds": 1, "epochs": 1, "batch_size": 2}  # a BatchNorm cannot train on one value


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Everything that decides the outcome of a comparison; the same settings and data give the same rows.

    Attributes:
        data: "digits", "mnist5k", a folder with ``train/<class>/*`` and ``test/<class>/*``, or ``hf:NAME``, a data set
            of Hugging Face.
        model: a network of :func:`aconite.models.list_models`.
        activations: names of :func:`aconite.nn.activations`, or formulas such as "x * sigmoid(beta * x)"; differences
            are taken to "relu" or, where that is not among them, to the first.
        se: squeeze-and-excitation at the end of each block, beside the activation.
        seeds: how many seeds, counted from 0, each activation is trained with.
        epochs: passes over the training images.
        batch_size: images in a step, at least 2; an incomplete last batch is left out (other images each epoch).
        lr: the learning rate at the start, falling to 0 by ``schedule``.
        weight_decay: for weights of more than one dimension only (:func:`aconite.nn.param_groups`).
        label_smoothing: of the training loss.
        schedule: "cosine" or "linear".
        init: the learnable activations' start: "paper", "swish" or "near-swish".
        image_size: side to which the images of a folder are resized and cropped; None keeps their own.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        SettingsError: a value that is not allowed.
        UnknownNameError: an activation or network that does not exist; the nearest name is suggested.

    >>> CompareSettings(seeds=2).baseline
    'relu'
    >>> CompareSettings(epochs=0)
    Traceback (most recent call last):
    aconite.errors.SettingsError: epochs is 0: it must be a whole number, at least 1
    """

    data: str = "digits"
    model: str = "resnet8"
    activations: tuple[str, ...] = ("relu", "silu", "acon-c", "meta-acon", "se-relu")
    se: bool = False
    seeds: int = 3
    epochs: int = 30
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    schedule: str = "cosine"
    init: Literal["paper", "swish", "near-swish"] = "paper"
    image_size: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, lowest in _LOWEST_COUNTS.items():
            _check_count(name, getattr(self, name), lowest)
        if self.image_size is not None:
            _check_count("image_size", self.image_size, 8)
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(f"{name} is {value!r}: choose one of {', '.join(choices)}")
        _check_number("lr", self.lr, self.lr > 0, "above 0")
        _check_number("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or above")
        _check_number("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "from 0 to below 1")
        if self.model not in list_models():
            raise UnknownNameError("model", self.model, list_models())
        if not self.activations:
            raise SettingsError("activations is empty: name at least one, such as relu,acon-c")
        for name in self.activations:
            check_activation(name)
            if self.activations.count(name) > 1:
                raise SettingsError(f"activation {name!r} is named twice: name each one once")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SettingsError("device is 'cuda', but torch sees no CUDA device here: use auto or cpu")

    @property
    def baseline(self) -> str:
        """The activation that the others are compared with."""
        return "relu" if "relu" in self.activations else self.activations[0]

    @property
    def resolved_device(self) -> str:
        """The device that "auto" stands for here."""
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"


def _check_count(name: str, value: Any, lowest: int) -> None:
    if not isinstance(value, int) or value < lowest:
        raise SettingsError(f"{name} is {value!r}: it must be a whole number, at least {lowest}")


def _check_number(name: str, value: float, fits: bool, wanted: str) -> None:
    if not (math.isfinite(value) and fits):
        raise SettingsError(f"{name} is {value!r}: it must be a number {wanted}")
