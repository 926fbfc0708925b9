"""One run: one network learns one task on one data set, on one device or many."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from aconite.errors import SettingsError
from aconite.kernels import native_library
from aconite.lab.callbacks import LogActivations
from aconite.lab.checkpoints import last_good_checkpoint
from aconite.lab.locks import alone
from aconite.lab.manners import NotesInterrupts, honest_interrupts, quiet_lightning, readable_errors
from aconite.lab.rows import Row
from aconite.lab.run_folder import claim
from aconite.lab.runs.batches import Batches
from aconite.lab.runs.engine import by_the_first, make_trainer, side_by_side
from aconite.lab.runs.experiment import Experiment, Figures
from aconite.lab.runs.folder import finished_row, write_finished
from aconite.lab.runs.kinds import OpenData, kind_of
from aconite.lab.runs.progress import RunProgress
from aconite.lab.runs.recipes import settings_toml
from aconite.lab.runs.settings import RunSettings
from aconite.lab.runs.speed import Speed
from aconite.lab.runs.step_checkpoints import StepCheckpoints
from aconite.provenance import provenance
from aconite.whole_file import write_whole

__all__ = ["Run", "train"]


@dataclass(frozen=True)
class Run:
    """A finished run: its settings, its folder and its row."""

    settings: RunSettings
    folder: Path
    row: Row

    @property
    def figures(self) -> Figures:
        """The last training loss and the metrics; of a run that diverged, those that it has."""
        last = {name: values[-1] for name, values in self.row["history"].items()}
        return {name: value for name, value in last.items() if value is not None}


def train(settings: RunSettings, out: Path | str, progress: RunProgress | None = None) -> Run:
    """Trains a network, or goes on where an earlier start with the same settings was cut off, and writes its weights,
    its row and its logs to ``out``. A finished run is not trained again.

    On a CPU with the same number of threads, a run that was cut off comes to the same weights as one that was not.

    Raises:
        DataError: the data cannot be used as they are.
        SettingsError: settings that do not fit the data or the machine; ``out`` cannot be written.
        CheckpointError: ``out`` holds a run with other settings.
        OSError: the disk is full, for instance; what was finished stays.
    """
    out, display = Path(out), progress or RunProgress()
    kind = kind_of(settings.task)
    data = kind.open_data(settings)
    batches, watch, speed = Batches(data, settings), NotesInterrupts(), Speed()
    callbacks = [watch, display, speed, StepCheckpoints(out / "checkpoints", settings.checkpoint_every)]
    if settings.log_activations:
        callbacks.append(LogActivations(settings.log_activations))
    torch.manual_seed(settings.seed)
    network = kind.network(_as_it_starts(settings, out), len(data.found.classes), display.note)
    with readable_errors(), quiet_lightning(), ExitStack() as held:
        trainer = make_trainer(settings, out, callbacks, batches)

        def begin() -> Row | None:
            held.enter_context(_claimed(out, settings, data, display, waits=not side_by_side(trainer)))
            return finished_row(out)

        if (row := by_the_first(trainer, begin)) is not None:  # only now: a mistake shows before there is a folder
            return Run(settings, out, row)
        for name, told in _FROZEN.items():
            if getattr(settings, name, False) and settings.weights is None:
                display.note(f"{name} without weights: {told}; name its weights with --weights")
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)
        if settings.compile:
            network.compile()
        parameters = sum(each.numel() for each in network.parameters())
        experiment, started = kind.experiment(network, settings, data.found.classes), time.perf_counter()
        resume = last_good_checkpoint(out / "checkpoints", display.note)
        with honest_interrupts(watch):
            trainer.fit(experiment, batches, ckpt_path=resume, weights_only=True)
        row = _row(experiment, batches, trainer.world_size) | {"parameters": parameters, "timing": {
            "epoch_seconds": [epoch["seconds"] for epoch in experiment.history],
            "images_per_second": speed.images_per_second,
            "seconds": time.perf_counter() - started,
        }}  # fmt: skip
        if trainer.is_global_zero:
            write_finished(out, row, display.note)
        trainer.strategy.barrier()
    return Run(settings, out, row)


def _as_it_starts(settings: RunSettings, out: Path) -> RunSettings:
    """Without the pretrained weights if there is a checkpoint, which has them all: their file may be gone by then."""
    goes_on = settings.weights and last_good_checkpoint(out / "checkpoints", lambda told: None)
    return replace(settings, weights=None) if goes_on else settings


@contextmanager
def _claimed(out: Path, settings: RunSettings, data: OpenData, display: RunProgress, *, waits: bool) -> Iterator[None]:
    """The folder is this run's, and this process's alone; what was left out of the data is told."""
    claim(out, settings.recorded(data.found.name, data.found.content) | {"classes": list(data.found.classes)})

    def wait() -> None:
        taken = f"{out} is in training by another process"
        if not waits:  # the others would wait for the first one no longer than torch lets them
            raise SettingsError(f"{taken}: start the command again when that has ended")
        display.note(f"{taken}: waiting for it")

    with alone(out / ".training.lock", wait):
        write_whole(out / "settings.toml", settings_toml(settings).encode())
        for problem in data.found.problems[:_TOLD]:
            display.note(f"left out: {problem.path}: {problem.reason}")
        if len(data.found.problems) > _TOLD:
            display.note(f"left out: {len(data.found.problems) - _TOLD} more, which `aconite check-data` lists")
        yield


_TOLD = 10
_FROZEN = {
    "freeze_norms": "the norms stay those of an untrained network, which normalise nothing",
    "freeze_stem": "the stem and first stage stay those of an untrained network",
}


def _row(experiment: Experiment, batches: Batches, processes: int) -> Row:
    settings, data, history = batches.settings, batches.data, experiment.history
    names = sorted({name for epoch in history for name in epoch} - {"seconds"})
    last = {name: value for name, value in history[-1].items() if name != "seconds"}
    finite = math.isfinite(history[-1]["train_loss"])
    origin = provenance("cuda" if experiment.device.type == "cuda" else "cpu", packages=("lightning", "torchmetrics"))
    return {
        "kind": "cell",
        "task": settings.task,
        "data": data.found.name,
        "model": settings.model,
        "activation": settings.activation,
        "seed": settings.seed,
        **{name: value if math.isfinite(value) else None for name, value in last.items()},
        **({} if finite else {settings.metric: settings.guessing(len(data.found.classes))}),
        "diverged": not finite,
        "left_out": len(data.found.problems) + sum(map(len, batches.met())),
        "history": {
            name: [
                value if (value := epoch.get(name)) is not None and math.isfinite(value) else None for epoch in history
            ]
            for name in names
        },
        "settings": settings.recorded(data.found.name, data.found.content),
        "provenance": origin | {"native": native_library().isa, "processes": processes},
    }
