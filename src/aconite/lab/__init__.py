"""Experiments: training, comparing and what can be concluded; the one door of Lightning.

>>> settings = CompareSettings(activations=("relu", "acon-c"), seeds=5)
>>> settings.model
'resnet8'
"""

from __future__ import annotations

from aconite.errors import MissingExtraError

try:
    import lightning as _lightning  # noqa: F401
    import rich as _rich  # noqa: F401
    import scipy as _scipy  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "lightning").partition(".")[0], "lab") from error

from aconite.lab.comparison import Comparison, compare
from aconite.lab.progress import Progress, progress_for
from aconite.lab.settings import CompareSettings
from aconite.lab.statistics import PairedDifference
from aconite.lab.summary import Line
from aconite.lab.table import print_table
from aconite.lab.tasks import EpochResult

__all__ = [
    "CompareSettings",
    "Comparison",
    "EpochResult",
    "Line",
    "PairedDifference",
    "Progress",
    "compare",
    "print_table",
    "progress_for",
]
