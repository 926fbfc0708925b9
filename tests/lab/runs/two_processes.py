"""Work in two processes that find each other by gloo, as torchrun or srun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from aconite.cli import main

Told = Callable[[int], dict[str, "int | str"]]
LIMIT = 120.0  # seconds, after which a test has hung


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def told_by_torchrun(rank: int) -> dict[str, int | str]:
    return {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0,
            "GROUP_WORLD_SIZE": 1, "TORCHELASTIC_RUN_ID": "test"}  # fmt: skip


def told_by_srun(rank: int) -> dict[str, int | str]:
    return {"SLURM_JOB_ID": 7, "SLURM_JOB_NAME": "train", "SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 2,
            "SLURM_NNODES": 1, "SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": 0}  # fmt: skip


def two(work: Callable[[int], int], told: Told = told_by_torchrun) -> list[int | None]:
    """Does the work in two processes, which are told what a launcher tells; their exit statuses, None of one that has
    hung. They are forked, which takes seconds less than to start them.
    """
    port = free_port()

    def begin(rank: int) -> None:
        environment = told(rank) | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in environment.items()})
        rank_zero_only.rank = rank  # Lightning sets it while it is imported
        os._exit(work(rank))

    both = [multiprocessing.get_context("fork").Process(target=begin, args=(rank,)) for rank in (0, 1)]
    for process in both:
        process.start()
    return wait_for(both)


def wait_for(both: Sequence[Any]) -> list[int | None]:
    """As torchrun does: when one process fails, the other has seconds to end."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and all(process.exitcode in (None, 0) for process in both):
        if all(process.exitcode == 0 for process in both):
            break
        time.sleep(0.02)
    statuses = []
    for process in both:
        process.join(max(0, min(end - time.monotonic(), 30)))
        statuses.append(process.exitcode)
        process.kill()
        process.join()
    return statuses


def commands(pictures: Path, folder: Path, *changes: str) -> tuple[list[int | None], list[list[str]]]:
    """The command line in two processes: their statuses and what they wrote to stderr."""
    words = ["train", "classification", "--data", str(pictures), "--model", "resnet8", "--image-size", "12",
             "--epochs", "2", "--batch-size", "4", "--accelerator", "cpu", "--out", str(folder / "run"),
             *changes]  # fmt: skip

    def work(rank: int) -> int:
        os.dup2(os.open(folder / f"err{rank}", os.O_CREAT | os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        return main(words)

    return two(work), [(folder / f"err{rank}").read_text().splitlines() for rank in (0, 1)]
