"""How Lightning is asked to behave: quiet, and ending as any other program ends."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aconite.errors import AconiteError, DataError

__all__ = ["NotesInterrupts", "honest_interrupts", "quiet_lightning", "readable_errors"]


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
def readable_errors() -> Iterator[None]:
    """Tells in one line what went wrong in another process; torch tells it as a traceback.

    Raises:
        DataError: a process that reads images met one.
        AconiteError: a process that reads images, or another of the training's, is gone.
    """
    try:
        yield
    except DataError as error:
        raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        first = (str(error) or type(error).__name__).partition("\n")[0].partition(". ")[0]
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            told = f"another process of this training is gone ({first}): its own message says why"
        elif not isinstance(error, RuntimeError) or "DataLoader worker" in str(error):
            told = f"a process that reads images is gone ({first}): if memory is short, try fewer --workers"
        else:
            raise
        raise AconiteError(f"{told}; the same command goes on from the last checkpoint") from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's banner and its advice, which speaks of loaders and options that are not the user's."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
