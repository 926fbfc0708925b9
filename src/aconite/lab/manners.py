"""How Lightning is asked to behave: quiet, and ending as any other program ends."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

__all__ = ["NotesInterrupts", "honest_interrupts", "quiet_lightning"]


class NotesInterrupts(Callback):
    """Knows whether a training ended by Ctrl-C, which Lightning turns into an exit with 1."""

    interrupted = False

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.interrupted = isinstance(exception, KeyboardInterrupt)


@contextmanager
def honest_interrupts(watch: NotesInterrupts) -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process as they end any other.

    Lightning ignores every further Ctrl-C and exits with 1, and with 0 at SIGTERM.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit:
        if not watch.interrupted:
            raise
        raise KeyboardInterrupt from None
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner and its advice, which speaks of loaders and options that are not the user's."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)")
        try:
            yield
        finally:
            logger.setLevel(level)
