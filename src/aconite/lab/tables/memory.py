"""How much memory a run needs at its highest, as torch's allocators count it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["peak_bytes"]


def peak_bytes(run: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes that the tensors which ``run()`` makes hold together at one moment, what operations allocate
    inside them included.

    What exists before the call does not count, and neither does the CPU memory of a run on "cuda". On a CPU this is the
    running sum of what torch's profiler notes of the allocator. It repeats to some bytes; in training steps of three
    networks it lay 0.1 to 2 % below a count of every malloc of the process, which holds what libraries below torch take
    for themselves. The resident memory of the process rose 1.3 to 2 times as much, each time by another figure, since
    the C library keeps some of what is freed. On "cuda" this is `torch.cuda.max_memory_allocated`, after a run that is
    not counted, in which libraries take the workspaces that they keep.

    >>> def two_at_a_time():
    ...     x = torch.zeros(1000)
    ...     for _ in range(5):
    ...         x = x.exp()
    >>> peak_bytes(two_at_a_time)
    8000
    """
    if device == "cpu":
        return max(accumulate(_changes(run)), default=0)
    run()
    gc.collect()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before


def _changes(run: Callable[[], object]) -> list[int]:
    """What each allocation adds and each release takes away, in the order of time."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library tells stderr about itself otherwise
    gc.collect()  # a release of what an earlier profile saw would count
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
