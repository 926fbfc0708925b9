"""Checkpoints of a training: two kept, and checked before one is trusted.

A checkpoint holds what Lightning puts in it, the history, and the state of torch's random numbers, which Lightning
leaves out.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from aconite.whole_file import write_whole

__all__ = ["EpochCheckpoints", "RenamedCheckpoints", "damage", "last_good_checkpoint"]

_KEPT = 2
# what zipfile, its decompressors and torch raise at bytes that make no sense
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, OSError, EOFError, RuntimeError, ValueError,
)  # fmt: skip


class EpochCheckpoints(Checkpoint):
    """Saves ``epoch-0001.ckpt``, … at the end of each epoch, keeps the last two, and carries torch's RNG state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._resumed: dict[str, Any] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, f"epoch-{trainer.current_epoch + 1:04}")

    def save(self, trainer: pl.Trainer, name: str) -> None:
        """Writes a checkpoint; every process calls it, and the first one writes."""
        path = self.folder / f"{name}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            there = _newest_first(self.folder)
            at = there.index(path)
            for old in there[:at] + there[at + _KEPT :]:  # newer: damaged, so that this training began before it
                old.unlink()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._resumed:  # not earlier: Lightning still sets things up while it loads
            torch.set_rng_state(self._resumed["cpu"])
            torch.cuda.set_rng_state_all(self._resumed["cuda"])

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict


class RenamedCheckpoints(TorchCheckpointIO):
    """Lets Lightning write a checkpoint under a temporary name first, so that a file of the final name is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        # through memory: on a full disk torch.save itself raises an internal error that hides the reason
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_whole(Path(path), content.getbuffer())


def last_good_checkpoint(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole, or None; each damaged one is told about, a missing one is no news."""
    checkpoints = _newest_first(folder)
    for number, path in enumerate(checkpoints):
        if (reason := damage(path)) is None:
            return path
        older = checkpoints[number + 1 :]
        then = f"trying {older[0].name} before it" if older else "training from its start"
        tell(f"checkpoint {path} is damaged ({reason}): {then}")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with the file, or None.

    torch writes zip archives, which hold a CRC of each part, but torch.load does not look at it; what the CRCs do not
    cover, the archive's own index, torch.load reads in its own way.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                return f"the CRC of {broken} does not fit"
        torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        return (str(error) or type(error).__name__).partition("\n")[0].partition(". ")[0]
    return None


def _newest_first(folder: Path) -> list[Path]:
    """By their numbers: epoch-0003-step-000250 is of the epoch after epoch-0003."""
    return sorted(folder.glob("epoch-*.ckpt"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)])[::-1]
