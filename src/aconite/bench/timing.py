"""How everything here is timed: contenders take turns, and a ratio compares two calls of the same round."""

from __future__ import annotations

import ctypes
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

__all__ = ["Quantiles", "give_back_freed_memory", "keep_freed_memory", "quantiles", "ratios", "take_turns"]


class Quantiles(NamedTuple):
    """The 20th, 50th and 80th percentile."""

    p20: float
    p50: float
    p80: float


def quantiles(values: Sequence[float]) -> Quantiles:
    """The spread of repeated measurements.

    >>> quantiles([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    Quantiles(p20=2.0, p50=3.5, p80=5.0)
    """
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Quantiles(tenths[1], tenths[4], tenths[7])


def ratios(values: Sequence[float], peer: Sequence[float]) -> Quantiles:
    """The spread of value / peer, round by round: what else the machine does falls on both.

    >>> ratios([2.0, 4.0], [1.0, 2.0])
    Quantiles(p20=2.0, p50=2.0, p80=2.0)
    """
    return quantiles([a / b for a, b in zip(values, peer, strict=True)])


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    most: int = 200,
    fewest: int = 5,
    shortest: float = 2e-3,
) -> dict[str, list[float]]:
    """Seconds per call of each contender, measured in rounds, each round in a new random order.

    A turn begins with a call that is not timed: whoever had the turn before left its own data in the caches, and the
    slowest contender's neighbour would pay for it.

    Args:
        contenders: name → a call without arguments. Each is called a few times before the first round.
        seconds: about how long all rounds may take together; the fewest rounds are always done.
        most: rounds at most.
        fewest: rounds at least.
        shortest: a contender faster than this is called several times in its turn, and the mean counts.
    """
    names = list(contenders)
    calls = {}
    for name, run in contenders.items():
        run()
        once = min(_timed(run, 1) for _ in range(3))
        calls[name] = max(1, min(1000, int(shortest / max(once, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    shuffle = random.Random(0)
    for done in range(most):
        if done >= fewest and time.perf_counter() > end:
            break
        shuffle.shuffle(names)
        for name in names:
            contenders[name]()
            times[name].append(_timed(contenders[name], calls[name]))
    return times


def keep_freed_memory() -> bool:
    """Have glibc's allocator keep what is freed for the rest of this process, as allocators made for training do.

    By default it gives large blocks back to the system at once, and the page faults of getting them again (1 µs for
    4 KiB, as long as a pass over the memory) fall on one contender or another by chance.

    Returns:
        False where the C library has no such setting.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, -1))


def give_back_freed_memory() -> None:
    """Have glibc's allocator give back what is freed now; between measurements of different sizes, whose blocks do not
    fit each other: networks at 16 and 64 images in a row would else hold more than 20 GB.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    trim(0)


def _timed(run: Callable[[], object], calls: int) -> float:
    _wait()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    _wait()
    return (time.perf_counter() - start) / calls


def _wait() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
