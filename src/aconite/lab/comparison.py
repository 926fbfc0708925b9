"""The main job: the same network with each activation, several seeds each, and what can be said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from aconite.lab.cluster import Cluster
from aconite.lab.compare_page import compare_page
from aconite.lab.costs import measure_costs
from aconite.lab.data import ImageData, load, training_batches
from aconite.lab.jobs import Job, finish_all
from aconite.lab.learnt import learnt
from aconite.lab.locks import alone
from aconite.lab.progress import Progress
from aconite.lab.rows import Row, cell_row, cost_row, recorded_settings
from aconite.lab.run_folder import RunFolder
from aconite.lab.settings import CompareSettings
from aconite.lab.summary import Line, summarise
from aconite.lab.training import Cell, new_task, train

__all__ = ["CellJob", "Comparison", "Source", "compare", "compare_jobs", "finish_cells"]

_COST_SECONDS = 10.0


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: a line per activation, the rows behind them, and the page that shows them."""

    settings: CompareSettings
    lines: Sequence[Line]
    rows: Sequence[Row]
    report: Path


def compare(
    settings: CompareSettings, out: Path | str, progress: Progress | None = None, *, cluster: Cluster | None = None
) -> Comparison:
    """Trains every cell that is not finished yet, measures the costs, and writes rows.jsonl and report.html to ``out``.

    Killed at any moment and started again, it goes on from the last finished epoch, and on a CPU with the same number
    of threads it comes to the same rows, times aside. With a cluster the cells are trained there, all at once if it
    has room for them; the costs are measured here.

    Raises:
        DataError: the data cannot be used as they are.
        SettingsError: ``out`` cannot be written.
        CheckpointError: ``out`` holds a run with other settings.
        OSError: the disk is full, for instance; what was finished stays.
    """
    with progress or Progress() as display:
        source = Source(settings.data, settings.image_size)
        folder = RunFolder(Path(out), recorded_settings(settings, source.data), display.note)
        finish_cells(_jobs(settings, Path(out), source), display, cluster, folder.write_rows)
        contents = [folder.finished(cell) for cell in _cells(settings)]
        cells = [content["row"] for content in contents]
        with alone(folder.lock):
            costs = folder.costs()
            if costs is None:
                display.stage("measuring what each activation costs")
                costs = _measure(settings, source.data)
                folder.set_costs(costs)
            lines = summarise(cells, costs, settings.activations, settings.baseline)
            good = [content for content in contents if not content["row"]["diverged"]]
            shown = {content["row"]["activation"]: content["learnt"] for content in reversed(good)}  # lowest seed's
            ordered = {name: shown[name] for name in settings.activations if name in shown}
            compare_page(settings, lines, cells, ordered).write(folder.report)
        folder.write_rows(cells + costs)
    return Comparison(settings, lines, cells + costs, folder.report)


def compare_jobs(settings: CompareSettings, out: Path | str) -> list[CellJob]:
    """The trainings of a comparison, in their order, for whoever wants to do some of them: `Job.finish` does one.

    >>> [job.name for job in compare_jobs(CompareSettings(activations=("relu", "acon-c"), seeds=2), "runs/digits")]
    ['relu-seed0', 'acon-c-seed0', 'relu-seed1', 'acon-c-seed1']
    """
    return _jobs(settings, Path(out), Source(settings.data, settings.image_size))


class Source:
    """Images that several jobs share; loaded when the first needs them."""

    def __init__(self, name: str, image_size: int | None) -> None:
        self._load = partial(load, name, image_size)

    @cached_property
    def data(self) -> ImageData:
        return self._load()


@dataclass(frozen=True)
class CellJob(Job):
    """A cell of a comparison; ``part`` names the comparison where there are several."""

    cell: Cell
    settings: CompareSettings
    path: Path
    source: Source
    part: str = ""

    @property
    def name(self) -> str:
        return self.part + self.cell.title

    def finished(self, tell: Callable[[str], None] = lambda text: None) -> Row | None:
        content = self._folder(tell).finished(self.cell)
        return None if content is None else content["row"]

    def finish(self, progress: Progress | None = None) -> Row:
        display = progress or Progress()
        taken = f"{self.name} is in training by another process: waiting for it"
        with alone(self.path / "checkpoints" / f".{self.cell.name}.lock", lambda: display.note(taken)):
            return self.finished() or self._train(display)

    def _train(self, progress: Progress) -> Row:
        """Trains the cell and writes its file: its row, and what its activations have learnt."""
        folder, data = self._folder(progress.note), self.source.data
        progress.part = self.part
        task = train(self.cell, self.settings, data, folder.checkpoints(self.cell), progress)
        row = cell_row(self.cell, task.history, self.settings, data)
        folder.finish(self.cell, {"row": row, "learnt": learnt(task, data) if not row["diverged"] else None})
        return row

    def _folder(self, tell: Callable[[str], None]) -> RunFolder:
        return RunFolder(self.path, recorded_settings(self.settings, self.source.data), tell)


def _cells(settings: CompareSettings) -> list[Cell]:
    """Seeds come before activations, so that what is there early can be compared."""
    return [Cell(seed, name) for seed in range(settings.seeds) for name in settings.activations]


def _jobs(settings: CompareSettings, path: Path, source: Source) -> list[CellJob]:
    return [CellJob(cell, settings, path, source) for cell in _cells(settings)]


def finish_cells(
    jobs: Sequence[CellJob],
    progress: Progress,
    cluster: Cluster | None = None,
    write: Callable[[list[Row]], None] = lambda rows: None,
) -> None:
    """Trains the cells that are not finished yet; ``write`` gets the rows that are there after each."""
    rows = {job: row for job in jobs if (row := job.finished(progress.note)) is not None}
    missing = [job for job in jobs if job not in rows]
    progress.begin(len(jobs), len(rows), jobs[0].settings.epochs, len(jobs[0].source.data.train_labels))
    for job, row in finish_all(missing, lambda job: progress, cluster):
        rows[job] = row
        write([rows[job] for job in jobs if job in rows])
        if cluster is not None:
            progress.cell(job.name, sum(row["timing"]["epoch_seconds"]))
        progress.finish(row["error"])


def _measure(settings: CompareSettings, data: ImageData) -> list[Row]:
    tasks = {
        name: new_task(Cell(0, name), settings, data).to(settings.resolved_device) for name in settings.activations
    }
    images, labels, shifts, flips = (
        part.to(settings.resolved_device) for part in next(iter(training_batches(data, settings.batch_size, seed=0)))
    )
    costs = measure_costs(tasks, settings.baseline, (images, labels, shifts, flips), _COST_SECONDS)
    return [cost_row(name, cost, settings, data) for name, cost in costs.items()]
