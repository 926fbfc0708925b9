"""What a person sees while cells are trained: a live display on a terminal, plain lines in a log, or nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from torch import Tensor

from aconite.lab.tasks import EpochResult

__all__ = ["LIVE_EVERY", "LiveProgress", "PlainProgress", "Progress", "bars_with_figures", "progress_for"]

LIVE_EVERY = 0.25  # seconds; reading the loss waits for the device, so not at every step


class Progress:
    """Shows nothing but the notes, which go to stderr; the displays below add to it. A context manager.

    A comparison calls :meth:`begin` once, then for each cell :meth:`cell`, :meth:`epoch` and :meth:`step` while it
    is trained, and :meth:`finish` at its end. ``part`` stands before a cell's name where there are several comparisons.
    """

    part = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, cells: int, finished: int, epochs: int, images: int) -> None:
        """``cells`` in all, ``finished`` of them before; each of ``epochs`` epochs of ``images`` images."""
        self.cells, self.finished, self.epochs, self.images = cells, finished, epochs, images

    def cell(self, name: str, seconds: float = 0.0) -> None:
        """A cell starts or goes on; ``seconds``: how long it has been trained elsewhere."""
        self.name, self.started, self.seen = self.part + name, time.monotonic() - seconds, 0

    def epoch(self, number: int, last: EpochResult | None) -> None:
        """Epoch ``number`` (from 0) of the cell starts; ``last`` is the result of the one before."""

    def step(self, images: int, loss: Tensor) -> None:
        """A training step is done."""
        self.seen += images

    def finish(self, test_error: float) -> None:
        """The cell is done."""
        self.finished += 1

    def note(self, text: str) -> None:
        """Something the user should know."""
        print(text, file=sys.stderr, flush=True)

    def stage(self, text: str) -> None:
        """Something other than training starts."""

    def close(self) -> None:
        """Nothing more comes."""

    @property
    def speed(self) -> float:
        """Images in a second of this cell, tests and checkpoints included."""
        return self.seen / max(time.monotonic() - self.started, 1e-9)


class PlainProgress(Progress):
    """A line for each finished cell, and between them one after the epoch that ends ``every`` seconds later."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every

    def cell(self, name: str, seconds: float = 0.0) -> None:
        super().cell(name, seconds)
        self.printed = self.started

    def epoch(self, number: int, last: EpochResult | None) -> None:
        if last is None or not self.seen or time.monotonic() - self.printed < self.every:
            return
        self.printed = time.monotonic()
        left = (self.epochs - number) * self.images / self.speed
        self._line(f"epoch {number}/{self.epochs}, {_figures(last)}, {self.speed:.0f} images/s, {left:.0f} s left")

    def finish(self, test_error: float) -> None:
        self._line(f"test error {test_error:.2f} %, {time.monotonic() - self.started:.0f} s")
        super().finish(test_error)

    def note(self, text: str) -> None:
        print(text, flush=True)

    stage = note

    def _line(self, text: str) -> None:
        self.note(f"[{self.finished + 1}/{self.cells}] {self.name}: {text}")


class LiveProgress(Progress):
    """Two bars that are redrawn in their place: all cells, and the cell at hand with its loss, error and speed."""

    def __init__(self, console: Console | None = None) -> None:
        self.bars = bars_with_figures(console)

    def begin(self, cells: int, finished: int, epochs: int, images: int) -> None:
        super().begin(cells, finished, epochs, images)
        self.all = self.bars.add_task("epochs of all cells", total=cells * epochs, figures="")
        self.one = self.bars.add_task("", total=epochs, figures="")
        self.bars.update(self.all, completed=finished * epochs)
        self.bars.start()

    def cell(self, name: str, seconds: float = 0.0) -> None:
        super().cell(name, seconds)
        self.errors, self.drawn, self.number = "", 0.0, 0
        self.bars.reset(self.one, description=self.name, figures="", completed=0)

    def epoch(self, number: int, last: EpochResult | None) -> None:
        self.number = number
        if last is not None:
            self.errors = f", error {last['train_error']:.2f} % train, {last['test_error']:.2f} % test"
        self.bars.update(self.one, completed=number)
        self.bars.update(self.all, completed=self.finished * self.epochs + number)

    def step(self, images: int, loss: Tensor) -> None:
        super().step(images, loss)
        if time.monotonic() - self.drawn > LIVE_EVERY:
            self.drawn = time.monotonic()
            self.bars.update(self.one, figures=f"loss {loss.item():.3f}{self.errors}, {self.speed:.0f} images/s")

    def finish(self, test_error: float) -> None:
        super().finish(test_error)
        self.bars.update(self.all, completed=self.finished * self.epochs)
        self.note(f"[{self.finished}/{self.cells}] {self.name}: test error {test_error:.2f} %")

    def note(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False)

    def stage(self, text: str) -> None:
        self.bars.update(self.one, description=text, figures="", total=None)

    def close(self) -> None:
        self.bars.stop()


def bars_with_figures(console: Console | None = None) -> Bars:
    """Bars that are redrawn in their place and gone at the end, each with a text of its task's field "figures"."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[figures]}"),
        console=console or Console(),
        refresh_per_second=4,
        transient=True,
    )


def progress_for(quiet: bool) -> Progress:
    """The display that fits: nothing when quiet, live on a terminal, plain lines elsewhere."""
    if quiet:
        return Progress()
    return LiveProgress() if sys.stdout.isatty() else PlainProgress()


def _figures(result: EpochResult) -> str:
    return (
        f"loss {result['train_loss']:.3f}, error {result['train_error']:.2f} % train, {result['test_error']:.2f} % test"
    )
