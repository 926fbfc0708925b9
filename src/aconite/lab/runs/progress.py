"""What a person sees of a run: a bar on a terminal, plain lines in a log, or nothing; from the first process only."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from aconite.errors import SettingsError
from aconite.lab.progress import LIVE_EVERY, bars_with_figures
from aconite.lab.runs.experiment import Experiment, Figures

__all__ = ["RunProgress", "is_first_process", "run_progress", "shown"]


def is_first_process() -> bool:
    """Whether this is the process of a distributed training that writes and speaks."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)  # Lightning sets it, from the launcher's environment


class RunProgress(Callback):
    """Shows nothing but notes, on stderr; those below add to it."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Experiment)
        self.started, self.first, self.drawn = time.monotonic(), trainer.global_step, 0.0
        self.steps = pl_module.steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and time.monotonic() - self.drawn > self.every:
            self.drawn = time.monotonic()
            loss = float(outputs["loss"]) * trainer.accumulate_grad_batches  # by which Lightning has divided it
            self.step(trainer.global_step, trainer.current_epoch, loss, self._speed(trainer, pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Experiment)
        figures = pl_module.last_figures()  # Lightning calls a module's own hook after the callbacks'
        if trainer.is_global_zero:
            self.epoch(trainer.global_step, trainer.current_epoch, figures)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    every = float("inf")

    def step(self, step: int, epoch: int, loss: float, speed: float) -> None:
        """A step is done; called about every ``every`` seconds."""

    def epoch(self, step: int, epoch: int, figures: Figures) -> None:
        """An epoch and its evaluation are done."""

    def note(self, text: str) -> None:
        """Something the user should know."""
        if is_first_process():
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing more comes."""

    def _speed(self, trainer: pl.Trainer, module: pl.LightningModule) -> float:
        """Images in a second, of all processes."""
        assert isinstance(module, Experiment)
        done = trainer.global_step - self.first
        return done * module.settings.batch_size / max(time.monotonic() - self.started, 1e-9)

    def _left(self, step: int) -> float:
        done = step - self.first
        return (self.steps - step) * (time.monotonic() - self.started) / done if done else 0.0


class PlainProgress(RunProgress):
    """A line after each epoch, and one every minute within it."""

    every = 60.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.drawn = self.started

    def step(self, step: int, epoch: int, loss: float, speed: float) -> None:
        self.note(f"step {step}/{self.steps}, epoch {epoch + 1}: loss {loss:.4f}, {speed:.1f} images/s, "
                  f"{_time(self._left(step))} left")  # fmt: skip

    def epoch(self, step: int, epoch: int, figures: Figures) -> None:
        self.note(f"step {step}/{self.steps}, epoch {epoch + 1}: {shown(figures)}, {_time(self._left(step))} left")

    def note(self, text: str) -> None:
        if is_first_process():
            print(text, flush=True)


class BarProgress(RunProgress):
    """One bar over all steps, redrawn in its place."""

    every = LIVE_EVERY

    def __init__(self, console: Console | None = None) -> None:
        self.bars = bars_with_figures(console)
        self.last = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self.bar = self.bars.add_task("steps", total=self.steps, completed=self.first, figures="")
            self.bars.start()

    def step(self, step: int, epoch: int, loss: float, speed: float) -> None:
        figures = f"loss {loss:.3f}{self.last}, {speed:.1f} images/s"
        self.bars.update(self.bar, completed=step, description=f"epoch {epoch + 1}", figures=figures)

    def epoch(self, step: int, epoch: int, figures: Figures) -> None:
        self.bars.update(self.bar, completed=step)
        self.last = f" ({shown({name: value for name, value in figures.items() if name != 'train_loss'})})"
        self.note(f"epoch {epoch + 1}: {shown(figures)}")

    def note(self, text: str) -> None:
        if is_first_process():
            self.bars.console.print(text, markup=False, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def close(self) -> None:
        self.bars.stop()


def run_progress(kind: str = "auto") -> RunProgress:
    """The display: "bar", "plain", "quiet", or "auto", which is a bar on a terminal and plain lines elsewhere."""
    displays: dict[str, type[RunProgress]] = {
        "auto": BarProgress if sys.stdout.isatty() else PlainProgress,
        "bar": BarProgress,
        "plain": PlainProgress,
        "quiet": RunProgress,
    }
    if kind not in displays:
        raise SettingsError(f"progress is {kind!r}: choose one of {', '.join(displays)}")
    return displays[kind]()


def shown(figures: Figures) -> str:
    """Metrics in a line of words, without those of single classes and those that have no value.

    >>> shown({"train_loss": 1.23456, "map_50": 0.5, "map_small": math.nan, "ap/cat": 0.5, "seconds": 12.0})
    'train loss 1.235, map 50 0.500'
    """
    told = {name: value for name, value in figures.items() if "/" not in name and name != "seconds"}
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in told.items() if not math.isnan(value))


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
