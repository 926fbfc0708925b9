"""One run: one network learns one task on one data set, on one device or many."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from aconite.kernels import native_library
from aconite.lab.checkpoints import EpochCheckpoints, last_good_checkpoint
from aconite.lab.manners import NotesInterrupts, honest_interrupts, quiet_lightning
from aconite.lab.rows import Row
from aconite.lab.run_folder import claim
from aconite.lab.runs.engine import Batches, make_trainer
from aconite.lab.runs.experiment import Experiment, Figures
from aconite.lab.runs.folder import finished_row, write_finished
from aconite.lab.runs.kinds import OpenData, kind_of
from aconite.lab.runs.progress import RunProgress, is_first_process
from aconite.lab.runs.recipes import settings_toml
from aconite.lab.runs.settings import RunSettings
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
    record = settings.recorded(data.found.name, data.found.content) | {"classes": list(data.found.classes)}
    if is_first_process():
        claim(out, record)
        write_whole(out / "settings.toml", settings_toml(settings).encode())
        for problem in data.found.problems[:_TOLD]:
            display.note(f"left out: {problem.path}: {problem.reason}")
        if len(data.found.problems) > _TOLD:
            display.note(f"left out: {len(data.found.problems) - _TOLD} more, which `aconite check-data` lists")
    if (row := finished_row(out)) is not None:
        return Run(settings, out, row)
    torch.manual_seed(settings.seed)
    network = prepared(kind.network(settings, len(data.found.classes), display.note), settings)
    experiment = kind.experiment(network, settings, data.found.classes)
    row = _fit(experiment, settings, data, out, display)
    return Run(settings, out, row)


_TOLD = 10


def prepared(network: nn.Module, settings: RunSettings) -> nn.Module:
    """With the memory format, fused norms and compiled graph that the settings ask for."""
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network


def _fit(experiment: Experiment, settings: RunSettings, data: OpenData, out: Path, display: RunProgress) -> Row:
    watch, checkpoints = NotesInterrupts(), EpochCheckpoints(out / "checkpoints")
    started = time.perf_counter()
    with quiet_lightning():
        trainer = make_trainer(settings, out, [watch, display, checkpoints])
        resume = last_good_checkpoint(out / "checkpoints", display.note)
        if settings.compile:
            experiment.network.compile()
        batches = Batches(data, settings)
        with honest_interrupts(watch):
            trainer.fit(experiment, batches, ckpt_path=resume, weights_only=True)
            if settings.metric not in experiment.history[-1] and math.isfinite(experiment.history[-1]["train_loss"]):
                trainer.validate(experiment, batches, verbose=False)
                experiment.history[-1] |= experiment.measured_last
    row = _row(experiment, settings, data, trainer.world_size, time.perf_counter() - started)
    if trainer.is_global_zero:
        write_finished(out, experiment.network, row)
    trainer.strategy.barrier()
    return row


def _row(experiment: Experiment, settings: RunSettings, data: OpenData, processes: int, seconds: float) -> Row:
    history = experiment.history
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
        "diverged": not finite,
        "history": {
            name: [
                value if (value := epoch.get(name)) is not None and math.isfinite(value) else None for epoch in history
            ]
            for name in names
        },
        "settings": settings.recorded(data.found.name, data.found.content),
        "provenance": origin | {"native": native_library().isa, "processes": processes},
        "timing": {"epoch_seconds": [epoch["seconds"] for epoch in history], "seconds": seconds},
    }
