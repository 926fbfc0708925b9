"""A run that ends as by SIGKILL, at the start of an epoch."""

from __future__ import annotations

from typing import Any

from aconite.lab.runs import RunProgress


class Killed(Exception):
    """What no part of a run expects."""


class KillAt(RunProgress):
    """Raises `Killed` when the epoch of this number begins."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.which = which

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == self.which:
            raise Killed
