"""Which trainings a study consists of: comparisons that differ in network and initial values, and share the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from aconite.errors import SettingsError, UnknownNameError
from aconite.lab.data import ImageData
from aconite.lab.rows import Row, recorded_settings
from aconite.lab.settings import CompareSettings
from aconite.nn import activation

__all__ = ["STUDIES", "StudySettings", "has_init", "recorded_study", "study_settings"]

_OWN = ("networks", "inits", "with_se", "depths", "depth_activations")  # beside what the comparisons share


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Everything that decides the outcome of a study.

    Attributes:
        shared: what its comparisons share: data, activations, seeds, epochs, recipe; not model, init and se.
        networks: every activation is trained in each of them.
        inits: every activation that takes an init is trained from each of them; the others once.
        with_se: activations trained once more in each network, with squeeze-and-excitation at the end of each block,
            which is what the paper compares Meta-ACON with; those that take an init start from the first.
        depths: networks of one family, shallow to deep, for the series over depth; empty for none.
        depth_activations: what the series compares; those that take an init start from the first of ``inits``.

    Raises:
        SettingsError: a name given twice, nothing to train, or a value that `CompareSettings` refuses.
        UnknownNameError: a name that does not exist.

    >>> study = study_settings("cifar", quick=True, data="digits", activations=("relu", "acon-c"))
    >>> [(part.model, part.init, ",".join(part.activations)) for part in study.comparisons][:2]
    [('resnet8', 'paper', 'relu,acon-c,swish'), ('resnet8', 'swish', 'acon-c')]
    """

    shared: CompareSettings
    networks: tuple[str, ...]
    inits: tuple[str, ...] = ("paper", "swish", "near-swish")
    with_se: tuple[str, ...] = ("relu",)
    depths: tuple[str, ...] = ()
    depth_activations: tuple[str, ...] = ("relu", "swish")

    def __post_init__(self) -> None:
        for name in _OWN:
            values = getattr(self, name)
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise SettingsError(f"{name} holds {twice!r} twice: name each one once")
            if not values and name not in ("with_se", "depths"):
                raise SettingsError(f"{name} is empty: name at least one")
        if self.depths and len(self.depth_activations) < 2:
            raise SettingsError(f"depth_activations holds {len(self.depth_activations)} name: a difference needs two")
        _ = self.comparisons  # each checks its names and numbers where it is made

    @property
    def comparisons(self) -> tuple[CompareSettings, ...]:
        """One comparison for each network and init; the depth series, and what takes no init, is in the first."""
        learnt = tuple(name for name in self.shared.activations if has_init(name))
        first, *others = self.inits
        members = {
            name: (self.shared.activations if name in self.networks else ())
            + tuple(each for each in self.depth_activations if name in self.depths and not self._main(name, each))
            for name in dict.fromkeys(self.networks + self.depths)
        }
        parts = []
        for model, names in members.items():
            parts.append(self._comparison(model, first, names))
            if learnt and model in self.networks:
                parts += [self._comparison(model, init, learnt) for init in others]
            if self.with_se and model in self.networks:
                parts.append(replace(self._comparison(model, first, self.with_se), se=True))
        return tuple(parts)

    def _main(self, model: str, name: str) -> bool:
        return model in self.networks and name in self.shared.activations

    def _comparison(self, model: str, init: str, names: Sequence[str]) -> CompareSettings:
        return replace(self.shared, model=model, init=cast(Any, init), activations=tuple(names))

    @property
    def cells(self) -> int:
        """How many trainings there are."""
        return sum(len(part.activations) * part.seeds for part in self.comparisons)


# The full form is for a night on two cores with 5,000 images of 32×32, the quick one for an hour of one.
_RESNETS = ("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56")
_ACTIVATIONS = ("relu", "silu", "swish", "se-relu", "acon-c", "meta-acon")
STUDIES: dict[str, dict[bool, dict[str, Any]]] = {
    "cifar": {
        False: {
            "shared": {"activations": _ACTIVATIONS, "seeds": 5, "epochs": 12, "batch_size": 64},
            "networks": ("resnet20", "shufflenetv2_x0_5"),
            "depths": _RESNETS,
        },
        True: {
            "shared": {"activations": _ACTIVATIONS, "seeds": 5, "epochs": 5, "batch_size": 64},
            "networks": ("resnet8",),
            "depths": _RESNETS[:3],
        },
    }
}
"""Name → quick or not → what is set; the rest is as in a comparison."""


def study_settings(name: str, *, quick: bool = False, **changes: Any) -> StudySettings:
    """The named study, in full or in its ``quick`` form, with other values for attributes of `StudySettings` or of the
    `CompareSettings` that its comparisons share.

    Raises:
        UnknownNameError: there is no such study.
        SettingsError: ``data`` is missing, or a value is refused.
    """
    if name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES)
    if "data" not in changes:
        raise SettingsError("a study needs data: name a folder with train/<class>/* and test/<class>/* (--data DIR)")
    preset = STUDIES[name][quick]
    own = {key: changes.pop(key) for key in _OWN if key in changes}
    shared = CompareSettings(**(preset["shared"] | changes))
    return StudySettings(**({key: preset[key] for key in _OWN if key in preset} | own), shared=shared)


def recorded_study(settings: StudySettings, data: ImageData) -> Row:
    """The settings as the study's folder holds them."""
    shared = recorded_settings(settings.shared, data)
    for name in ("model", "init", "se"):  # each comparison has its own
        shared.pop(name, None)
    own = {name: list(value) for name, value in asdict(settings).items() if name != "shared"}
    return own | shared


def has_init(name: str) -> bool:
    """Whether the activation of this name starts from an init.

    >>> has_init("acon-c"), has_init("swish")
    (True, False)
    """
    return hasattr(activation(name), "init")
