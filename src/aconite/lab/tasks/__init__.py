"""What is learnt: one LightningModule per kind of task."""

from aconite.lab.tasks.classification import Batch, Classification, EpochResult

__all__ = ["Batch", "Classification", "EpochResult"]
