"""What a printed table of results consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from aconite.errors import UnknownNameError

__all__ = ["PUBLISHED_SIZE", "PublishedRow", "PublishedTable", "beyond_rounding"]

PUBLISHED_SIZE = 224
"""Side of the images, in pixels, that the published multiply-adds are for."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One row as it was printed, and the network here that it speaks of.

    Attributes:
        label: the network's name in the paper.
        network: its name in :func:`aconite.models.create`.
        activation: the activation there.
        se: whether the blocks end in squeeze-and-excitation.
        figures: metric → printed value; what was not printed is left out.
        parameters: as printed, such as "1.4M"; None where the paper prints none.
        multiply_adds: as printed, such as "41M".
        group: rows of one group are compared with its ReLU row; usually they are those of one network.

    >>> row = PublishedRow(label="ResNet-18", network="resnet18", activation="acon-c", group="ResNet-18")
    >>> row.call
    "create('resnet18', activation='acon-c')"
    """

    label: str
    network: str
    activation: str
    se: bool = False
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)
    parameters: str | None = None
    multiply_adds: str | None = None
    group: str

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of ``create`` after the network's name."""
        return {"activation": self.activation} | ({"se": True} if self.se else {})

    @property
    def call(self) -> str:
        """The call that builds the network."""
        return f"create({self.network!r}, {', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    @property
    def variant(self) -> str:
        """What tells apart the rows of one network, the activation and whether there is SE."""
        return f"{self.activation} + SE" if self.se else self.activation


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table, or a figure of results.

    Attributes:
        name: what `aconite table` calls it.
        title: what it shows, and where.
        task: "classification", "detection" or "segmentation".
        metrics: "error" (top-1, in %), "gain" (points of error below ReLU's), or what the task is measured by.
        rows: in the order in which they are shown.
    """

    name: str
    title: str
    task: str = "classification"
    metrics: Sequence[str] = ("error",)
    rows: Sequence[PublishedRow]

    def baseline(self, row: PublishedRow) -> PublishedRow:
        """The plain ReLU row of the row's group, to which costs and gains are relative."""
        return next(other for other in self.rows if other.group == row.group and other.variant == "relu")

    def only(self, networks: Sequence[str]) -> Self:
        """The table reduced to the groups in which these networks stand.

        Raises:
            UnknownNameError: the table has no such network; the message lists those that it has.
        """
        known = dict.fromkeys(row.network for row in self.rows)
        for network in networks:
            if network not in known:
                raise UnknownNameError(f"network of table {self.name}", network, known)
        groups = {row.group for row in self.rows if row.network in networks}
        return replace(self, rows=[row for row in self.rows if row.group in groups])


def beyond_rounding(printed: str, counted: int) -> bool:
    """Whether a count differs from a printed figure, in M or G, by more than half a unit of its last digit.

    >>> beyond_rounding("1.4M", 1_379_600), beyond_rounding("25.5M", 25_560_000)
    (False, True)
    """
    number, scale = printed[:-1], {"M": 1e6, "G": 1e9}[printed[-1]]
    unit = 10.0 ** -len(number.partition(".")[2])
    return abs(counted / scale - float(number)) > unit / 2
