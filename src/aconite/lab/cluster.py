"""Jobs on a cluster, by Ray: it finds room for each and gives the job of a worker that died to another."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_only

from aconite.errors import AconiteError, MissingExtraError, SettingsError

if TYPE_CHECKING:
    from aconite.lab.jobs import Job
    from aconite.lab.rows import Row

_Job = TypeVar("_Job", bound="Job")
__all__ = ["Cluster"]

_RETRIES = 10  # a job that goes on from its last epoch can lose its worker often
_PATIENCE = 10.0  # seconds for a machine to answer


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines that Ray knows, each with Aconite installed and the same folders at the same paths.

    Attributes:
        address: "local" starts Ray on this machine, for these jobs alone; "auto" or HOST:PORT joins one that runs.
        cpus: cores of each job, and its torch threads: its results are those of a process with as many.
        gpus: GPUs of each job; with 0.5, two jobs share one.

    Raises:
        SettingsError: a number that is not allowed.

    >>> Cluster(address="local", cpus=0)
    Traceback (most recent call last):
    aconite.errors.SettingsError: a job on 0 cores: it needs a whole number of them, at least 1 (--cell-cpus)
    """

    address: str
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise SettingsError(
                f"a job on {self.cpus} cores: it needs a whole number of them, at least 1 (--cell-cpus)"
            )
        if self.gpus < 0 or not (self.gpus < 1 or float(self.gpus).is_integer()):
            raise SettingsError(f"a job on {self.gpus} GPUs: give a share of one, or a whole number (--cell-gpus)")

    def finish(self, jobs: Sequence[_Job]) -> Iterator[tuple[_Job, Row]]:
        """The jobs with their rows, in the order in which they end.

        An error of one job is raised once the others are done. However this ends, no job runs on.

        Raises:
            MissingExtraError: Ray is not installed.
            SettingsError: there is no cluster at this address, or none of its machines has room for a job.
            AconiteError: the worker of one job died again and again.
        """
        ray = _ray()
        with _joined(ray, self):
            everything, folder = ray.put(list(jobs)), str(Path.cwd())
            task = ray.remote(_finish).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=_RETRIES)
            running = {task.remote(everything, at, self.cpus, folder): job for at, job in enumerate(jobs)}
            failure: Exception | None = None
            try:
                while running:
                    [done], _ = ray.wait(list(running))
                    job = running.pop(done)
                    try:
                        row = ray.get(done)
                    except ray.exceptions.RayTaskError as error:
                        failure = failure or error.cause
                    except ray.exceptions.RayError as error:
                        failure = failure or AconiteError(_lost(job, error))
                    else:
                        yield job, row
            finally:
                for left in running:
                    ray.cancel(left, force=True)
        if failure is not None:
            raise failure


def _finish(jobs: Sequence[Job], at: int, threads: int, folder: str) -> Row:
    """What a worker does."""
    try:
        os.chdir(folder)  # so that relative paths mean what they mean to the user
    except OSError as error:
        raise SettingsError(
            f"a machine of the cluster has no folder {folder}: it needs the same folders at the same paths"
        ) from error
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]  # of the Ray that Slurm has started: Lightning would look for the other processes
    rank_zero_only.rank = 0  # type: ignore[attr-defined]  # Lightning keeps it there
    torch.set_num_threads(threads)
    return jobs[at].finish()


def _lost(job: Job, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"{job.name} lost its worker {_RETRIES + 1} times ({reason}): the same command goes on from its last epoch"


@contextmanager
def _joined(ray: Any, cluster: Cluster) -> Iterator[None]:
    """Leaves a Ray that the program had already as it is."""
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or a Ray that is started here reports to its makers
        started = {"include_dashboard": False} if cluster.address == "local" else {}
        try:
            _knock(cluster.address)
            ray.init(address=cluster.address, logging_level=logging.ERROR, **started)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise SettingsError(
                f"no Ray at {cluster.address} ({reason}): start one by `ray start --head`, or write --cluster local"
            ) from error
    try:
        if cluster.address == "local":
            _check_room(ray.cluster_resources(), cluster)
        yield
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody listens at HOST:PORT; Ray itself would go on asking for longer than a quarter of an hour."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _check_room(there: dict[str, float], cluster: Cluster) -> None:
    """Without room Ray would wait for a larger machine to join."""
    for name, wanted, option in (("CPU", cluster.cpus, "--cell-cpus"), ("GPU", cluster.gpus, "--cell-gpus")):
        if wanted > there.get(name, 0):
            raise SettingsError(f"a job needs {wanted} {name}s, and this machine has {there.get(name, 0):.0f}: "
                                f"choose a smaller {option}")  # fmt: skip


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "cluster") from error
    return ray
