"""What can be learnt: a task is its settings, its data, its network and its LightningModule."""

from __future__ import annotations

from aconite.errors import UnknownNameError
from aconite.lab.runs.kinds.classification import CLASSIFICATION
from aconite.lab.runs.kinds.detection import DETECTION
from aconite.lab.runs.kinds.kind import Kind, OpenData
from aconite.lab.runs.kinds.segmentation import SEGMENTATION

__all__ = ["KINDS", "Kind", "OpenData", "kind_of"]

KINDS: dict[str, Kind] = {kind.settings.task: kind for kind in (CLASSIFICATION, DETECTION, SEGMENTATION)}


def kind_of(task: str) -> Kind:
    """The task by name.

    Raises:
        UnknownNameError: there is no such task.
    """
    if task not in KINDS:
        raise UnknownNameError("task", task, KINDS)
    return KINDS[task]
