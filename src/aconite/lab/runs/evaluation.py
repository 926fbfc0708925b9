"""Measures a trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from aconite.errors import DataError, SettingsError
from aconite.lab.data import is_hugging_face
from aconite.lab.manners import quiet_lightning
from aconite.lab.runs.engine import make_trainer
from aconite.lab.runs.experiment import Figures
from aconite.lab.runs.finished import load_run

__all__ = ["evaluate"]


def evaluate(
    folder: Path | str,
    data: Path | str | None = None,
    *,
    checkpoint: Path | str | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "auto",
    tell: Callable[[str], None] = print,
) -> Figures:
    """The metrics of a run's network on the test images of a data set.

    Args:
        folder: what `train` wrote.
        data: a data set with the same classes; the run's own unless given.
        checkpoint: another state than the finished one; see `load_run`.
        batch_size: images at a time.
        workers: processes that read images.
        device: see `load_run`.
        tell: hears that the run's data have changed since.

    Raises:
        CheckpointError: see `load_run`.
        SettingsError: see `load_run`; ``batch_size`` below 1 or ``workers`` below 0.
        DataError: the data are not there, cannot be used as they are, or have other classes.
    """
    if batch_size < 1 or workers < 0:
        raise SettingsError(f"batch_size {batch_size} and workers {workers}: at least 1 and at least 0")
    trained = load_run(folder, checkpoint, device=device, tell=tell)
    on_cpu = next(trained.network.parameters()).device.type == "cpu"
    precision = trained.settings.precision
    settings = replace(
        trained.settings,
        data=str(trained.settings.data if data is None else data),
        accelerator="cpu" if on_cpu else "gpu",
        devices="1",
        nodes=1,
        strategy="auto",
        precision="32-true" if on_cpu and precision == "16-mixed" else precision,  # which is for GPUs alone
        loggers=(),
        log_activations=None,
        workers=workers,
    )
    if data is None and not is_hugging_face(settings.data) and not Path(settings.data).is_dir():
        raise DataError(f"the run's data are no longer at {settings.data}: name them, or others, with --data")
    opened = trained.kind.open_data(settings)
    if opened.found.classes != trained.classes:
        raise DataError(f"{settings.data} {_other_classes(opened.found.classes, trained.classes)}")
    if data is None and opened.found.content != trained.content:
        tell(f"{settings.data} has changed since the run: its figures then are not those now")
    experiment = trained.kind.experiment(trained.network, settings, trained.classes)
    with quiet_lightning():
        trainer = make_trainer(settings, Path(folder), [])
        share = opened.evaluation(batch_size, trainer.global_rank, trainer.world_size)
        trainer.validate(experiment, share, verbose=False)
    return experiment.measured_last


def _other_classes(there: tuple[str, ...], learnt: tuple[str, ...]) -> str:
    """In what the classes of the data are not those that the run has learnt, and what to do about it."""
    missing = [name for name in learnt if name not in there]
    new = [name for name in there if name not in learnt]
    if not missing and not new:
        at = next(index for index, pair in enumerate(zip(there, learnt, strict=True)) if pair[0] != pair[1])
        return (f"has the classes that the run has learnt in another order: number {at} is {there[at]} there and "
                f"{learnt[at]} in the run; give the data the run's order, {_shown(learnt)}")  # fmt: skip
    told = [f"lacks {_shown(missing)}"] * bool(missing) + [f"has {_shown(new)} beside"] * bool(new)
    return (f"has other classes than the run has learnt: it {' and '.join(told)}; give data with the classes "
            f"{_shown(learnt)}")  # fmt: skip


def _shown(classes: Sequence[str]) -> str:
    return ", ".join(classes[:8]) + (f" and {len(classes) - 8} more" if len(classes) > 8 else "")
