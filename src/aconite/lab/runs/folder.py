"""A run's folder.

    run.json         the settings that decide the outcome, which every later start must share; the data's hash, classes
    settings.toml    all settings, for --config
    checkpoints/     the last two
    csv/start-0/     the curves of each start, and tensorboard/
    weights.pt       the finished network's state dict
    rows.jsonl       the finished run's row
    .training.lock   who trains holds this; .lock: who claims the folder

Every file is written beside its place and renamed, so that it is whole whenever the process ends.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aconite.errors import CheckpointError
from aconite.lab.checkpoints import last_good_checkpoint
from aconite.lab.rows import Row
from aconite.whole_file import write_whole

__all__ = ["finished_row", "read_run", "write_finished"]


def finished_row(path: Path) -> Row | None:
    """The row of a finished run, or None.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = path / "rows.jsonl"
    try:
        row: Row = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(
            f"{file} is damaged ({error}): delete it to train again from the last checkpoint"
        ) from error
    return row


def write_finished(path: Path, row: Row, tell: Callable[[str], None]) -> None:
    """The last checkpoint's weights, then the row: a run with a row is finished.

    The checkpoint has them on the CPU and in one piece, whatever devices the network is spread over.
    """
    checkpoint = last_good_checkpoint(path / "checkpoints", tell)
    if checkpoint is None:
        raise CheckpointError(f"the last checkpoint in {path} is gone: start the command again")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."  # of Lightning's module
    content = io.BytesIO()
    torch.save({name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}, content)
    write_whole(path / "weights.pt", content.getbuffer())
    write_whole(path / "rows.jsonl", (json.dumps(row, ensure_ascii=False) + "\n").encode())


def read_run(path: Path) -> dict[str, Any]:
    """The content of run.json.

    Raises:
        CheckpointError: the folder holds no run, or its run.json is damaged.
    """
    try:
        content: dict[str, Any] = json.loads((path / "run.json").read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} holds no run: name a folder that `aconite train` wrote") from error
    except ValueError as error:
        raise CheckpointError(f"{path / 'run.json'} is damaged ({error})") from error
    return content
