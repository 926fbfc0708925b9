"""One process at a time, of all that share a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from aconite.errors import SettingsError

__all__ = ["alone"]

_AGAIN = 0.2  # seconds between two looks at a lock that another process holds


@contextmanager
def alone(lock: Path, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a lock while the block runs; where another process has it, calls ``wait`` once and waits.

    The lock is the operating system's own on the open file (flock), on whichever machine: it is free as soon as its
    holder is gone, however that ended. The file, which is empty, stays.

    Raises:
        SettingsError: the file cannot be made.
    """
    held = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            wait()
            held.acquire(poll_interval=_AGAIN)
    except OSError as error:
        raise SettingsError(
            f"cannot write to {lock.parent}: {error.strerror}; choose another folder with --out"
        ) from error
    try:
        yield
    finally:
        held.release()
