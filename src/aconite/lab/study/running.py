"""Runs a study: all its trainings, seed by seed, and then what they say.

The study's folder holds one folder for each comparison, as `aconite compare` would leave it, and beside them:

    run.json       the settings, which every later start must share
    rows.jsonl     the rows of all comparisons
    report.html
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aconite.lab.cluster import Cluster
from aconite.lab.comparison import CellJob, Source, compare, finish_cells
from aconite.lab.data import ImageData, training_batches
from aconite.lab.progress import Progress
from aconite.lab.rows import Row
from aconite.lab.run_folder import RunFolder
from aconite.lab.settings import CompareSettings
from aconite.lab.study.findings import Findings, find
from aconite.lab.study.page import study_page
from aconite.lab.study.settings import StudySettings, recorded_study
from aconite.lab.training import Cell, new_task

__all__ = ["Study", "run_study", "study_jobs"]

_STEPS = 3


@dataclass(frozen=True)
class Study:
    """A finished study: what its rows say, the rows, and the page that shows them."""

    settings: StudySettings
    findings: Findings
    rows: list[Row]
    report: Path


def run_study(
    settings: StudySettings, out: Path | str, progress: Progress | None = None, *, cluster: Cluster | None = None
) -> Study:
    """Trains every cell that is not finished yet and writes the comparisons' folders, rows.jsonl and report.html.

    Seed by seed: an early look finds all arms with the same seeds. A cell is the one that `aconite.lab.compare` would
    train, so stopping, going on, the same rows again and training on a cluster are as there.

    Raises:
        DataError: the data cannot be used as they are.
        SettingsError: ``out`` cannot be written.
        CheckpointError: ``out`` holds a run with other settings.
        OSError: the disk is full, for instance; what was finished stays.
    """
    with progress or Progress() as display:
        jobs = study_jobs(settings, out)
        data = jobs[0].source.data
        folder = RunFolder(Path(out), recorded_study(settings, data), display.note)
        if missing := [job.settings for job in jobs if job.finished() is None]:
            display.note(_estimate(missing, data))
            finish_cells(jobs, display, cluster)
        display.stage("measuring what each activation costs")
        parts = {job.path: job.settings for job in jobs}
        comparisons = [compare(part, path) for path, part in parts.items()]  # trains nothing: every cell is finished
        rows = [row for comparison in comparisons for row in comparison.rows]
        folder.write_rows(rows)
        findings = find(settings, rows)
        study_page(settings, findings, rows).write(folder.report)
    return Study(settings, findings, rows, folder.report)


def study_jobs(settings: StudySettings, out: Path | str) -> list[CellJob]:
    """The trainings of a study, in their order, as `aconite.lab.compare_jobs`."""
    source = Source(settings.shared.data, settings.shared.image_size)
    parts = {f"{each.model}-{'se' if each.se else each.init}": each for each in settings.comparisons}
    return [
        CellJob(Cell(seed, name), part, Path(out) / folder, source, f"{folder} ")
        for seed in range(settings.shared.seeds)
        for folder, part in parts.items()
        for name in part.activations
    ]


def _estimate(missing: Iterable[CompareSettings], data: ImageData) -> str:
    """How long the trainings will take, from a few steps of each comparison; a tested image counts as a third."""
    counts = Counter(missing)
    step = {settings: _step_seconds(settings, data) for settings in counts}
    images = len(data.train_labels) + len(data.test_labels) / 3
    seconds = sum(
        count * settings.epochs * images / settings.batch_size * step[settings] for settings, count in counts.items()
    )
    steps = ", ".join(f"{model} {1e3 * found:.0f} ms" for model, found in {s.model: step[s] for s in step}.items())
    return f"{counts.total()} trainings, about {seconds / 3600:.1f} hours (a training step: {steps})"


def _step_seconds(settings: CompareSettings, data: ImageData) -> float:
    device = settings.resolved_device
    task = new_task(Cell(0, settings.activations[-1]), settings, data).to(device).train()
    optimizer, times = task.optimizer(), []
    images, labels, shifts, flips = (
        part.to(device) for part in next(iter(training_batches(data, settings.batch_size, seed=0)))
    )
    for _ in range(1 + _STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = task.training_step((images, labels, shifts, flips))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
