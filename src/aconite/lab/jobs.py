"""The trainings of a comparison as jobs: done here, one after another, or wherever a cluster has room for them.

A job's results lie in a folder that all processes share, and a job that has them is finished. So a job can be done
by any process, in any order, and again after a process that died with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from aconite.lab.cluster import Cluster
from aconite.lab.rows import Row

__all__ = ["Job", "finish_all"]

_Job = TypeVar("_Job", bound="Job")


class Job(ABC):
    """One training. It can be pickled, and then done by another process that sees the same folders."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the user sees, such as "relu-seed0"."""

    @abstractmethod
    def finished(self) -> Row | None:
        """Its row, or None as long as it is not trained."""

    @abstractmethod
    def finish(self, progress: Any = None) -> Row:
        """Its row, trained from its last checkpoint on unless it is there already; ``progress`` shows notes alone
        unless given. A process that comes while another trains it waits for that one.
        """


def finish_all(
    jobs: Sequence[_Job], progress: Callable[[_Job], Any], cluster: Cluster | None = None
) -> Iterator[tuple[_Job, Row]]:
    """The jobs with their rows, as they are finished: one after another, or all at once on a cluster."""
    if cluster is not None:
        yield from cluster.finish(jobs)
        return
    for job in jobs:
        yield job, job.finish(progress(job))
