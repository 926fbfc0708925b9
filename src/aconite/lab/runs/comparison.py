"""A comparison of whole runs: the same settings with each activation and seed, and what can be said about it.

Its folder holds

    run.json           the settings, which every later start must share
    runs/<cell>/       one run, as `aconite train` leaves it
    rows.jsonl         the rows of the finished runs
    report.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aconite.errors import CheckpointError, SettingsError
from aconite.lab.cluster import Cluster
from aconite.lab.data import data_name
from aconite.lab.jobs import Job, finish_all
from aconite.lab.locks import alone
from aconite.lab.rows import Row
from aconite.lab.run_folder import claim
from aconite.lab.runs.comparison_page import runs_page
from aconite.lab.runs.folder import finished_row
from aconite.lab.runs.kinds import kind_of
from aconite.lab.runs.progress import RunProgress, is_first_process, shown
from aconite.lab.runs.run import Run, train
from aconite.lab.runs.settings import RunSettings
from aconite.lab.summary import Metric, Standing, standings
from aconite.lab.training import Cell
from aconite.whole_file import write_whole

__all__ = ["RunJob", "RunsComparison", "RunsSettings", "compare_runs", "finish_runs", "run_jobs"]

METRICS = {
    "error": Metric("error", "test error", higher_is_better=False),
    "map": Metric("map", "test mAP", higher_is_better=True, percent=100.0),
    "miou": Metric("miou", "test mIoU", higher_is_better=True, percent=100.0),
}


@dataclass(frozen=True, kw_only=True)
class RunsSettings:
    """Runs that differ in their activation and seed alone.

    Attributes:
        shared: the settings; its own activation and seed do not count, and ``{activation}`` in its weights stands for
            each run's, as in "runs/resnet50-{activation}/weights.pt".
        activations: names or formulas; "none" is a foreign network's own. Differences are taken to "relu" or, where
            that is not among them, to the first.
        seeds: how many seeds, counted from 0, each activation is trained with.

    Raises:
        SettingsError: a value that is not allowed.
        UnknownNameError: an activation that does not exist.
    """

    shared: RunSettings
    activations: tuple[str, ...]
    seeds: int

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise SettingsError(f"seeds is {self.seeds}: it must be a whole number, at least 1")
        if not self.activations:
            raise SettingsError("activations is empty: name at least one, such as relu,acon-c")
        if twice := next((name for name in self.activations if self.activations.count(name) > 1), None):
            raise SettingsError(f"activation {twice!r} is named twice: name each one once")
        _ = [self.of(cell) for cell in self.cells]  # checks the activations

    @property
    def cells(self) -> list[Cell]:
        """Seeds come before activations, so that what is there early can be compared."""
        return [Cell(seed, name) for seed in range(self.seeds) for name in self.activations]

    @property
    def baseline(self) -> str:
        """The activation that the others are compared with."""
        return "relu" if "relu" in self.activations else self.activations[0]

    @property
    def metric(self) -> Metric:
        """By which the runs are compared."""
        return METRICS[self.shared.metric]

    def of(self, cell: Cell) -> RunSettings:
        """The settings of one run."""
        weights = self.shared.weights and self.shared.weights.replace("{activation}", cell.activation)
        activation = None if cell.activation == "none" else cell.activation
        return replace(self.shared, activation=activation, seed=cell.seed, weights=weights)

    def recorded(self) -> Row:
        """What the comparison's folder holds. The images themselves stand in each run's record."""
        record = self.shared.recorded(data_name(self.shared.data), "")
        for name in ("activation", "seed", "content"):
            del record[name]
        return record | {"activations": list(self.activations), "seeds": self.seeds}


@dataclass(frozen=True)
class RunsComparison:
    """A finished comparison: a standing for each activation, the rows behind them, and the page that shows them."""

    settings: RunsSettings
    standings: Sequence[Standing]
    rows: Sequence[Row]
    report: Path


@dataclass(frozen=True, eq=False)
class RunJob(Job):
    """A run of a comparison."""

    cell: Cell
    comparison: RunsSettings
    out: Path

    @property
    def name(self) -> str:
        return self.cell.title

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.out / "runs" / self.cell.name

    def finished(self) -> Row | None:
        if is_first_process():
            if not (self.out / "run.json").exists():  # a mistake in the data shows before there is a folder
                kind_of(self.comparison.shared.task).open_data(self.comparison.shared)
            claim(self.out, self.comparison.recorded())
        row = finished_row(self.path)
        return None if row is None else row | {"activation": self.cell.activation}

    def finish(self, progress: RunProgress | None = None) -> Row:
        row = self.finished() or train(self.comparison.of(self.cell), self.path, progress).row
        return row | {"activation": self.cell.activation}


def run_jobs(settings: RunsSettings, out: Path | str) -> list[RunJob]:
    """The runs of a comparison, in their order, for whoever wants to do some of them."""
    return [RunJob(cell, settings, Path(out)) for cell in settings.cells]


def compare_runs(
    settings: RunsSettings,
    out: Path | str,
    progress: Callable[[], RunProgress] = RunProgress,
    *,
    tell: Callable[[str], None] = lambda text: None,
    cluster: Cluster | None = None,
) -> RunsComparison:
    """Trains every run that is not finished yet, and writes rows.jsonl and report.html to ``out``.

    Stopped at any moment and started again it goes on, and on a CPU with the same number of threads it comes to the
    same rows, times aside.

    Args:
        settings: which runs.
        out: folder of the comparison.
        progress: makes the display of one run.
        tell: gets a line about each run.
        cluster: where the runs are trained, if not here.

    Raises:
        DataError: the data cannot be used as they are.
        SettingsError: settings that do not fit the data or the machine; ``out`` cannot be written.
        CheckpointError: ``out`` holds a comparison with other settings, or runs on other data.
        OSError: the disk is full, for instance; what was finished stays.
    """
    if cluster is not None and (settings.shared.devices, settings.shared.nodes) != ("1", 1):
        raise SettingsError("a run of a cluster has one device: leave --devices and --nodes away, or --cluster")
    out = Path(out)

    def write(rows: list[Row]) -> None:
        if is_first_process():
            with alone(out / ".lock"):
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                write_whole(out / "rows.jsonl", lines.encode())

    rows = finish_runs(run_jobs(settings, out), progress, tell, cluster, write)
    if len({row["settings"]["content"] for row in rows}) > 1:
        raise CheckpointError(f"the runs in {out / 'runs'} have learnt from different images: choose another --out")
    found = standings(rows, settings.activations, settings.baseline, settings.metric)
    report = out / "report.html"
    write(rows)
    if is_first_process():
        with alone(out / ".lock"):
            runs_page(settings.metric, settings.baseline, settings.seeds, found, rows).write(report)
    return RunsComparison(settings, found, rows, report)


def finish_runs(
    jobs: Sequence[RunJob],
    progress: Callable[[], RunProgress] = RunProgress,
    tell: Callable[[str], None] = lambda text: None,
    cluster: Cluster | None = None,
    write: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """The rows of these runs, trained where they are not finished; ``write`` gets those that are there after each."""
    rows = {job: row for job in jobs if (row := job.finished()) is not None}

    def start(job: RunJob) -> RunProgress:
        tell(f"[{len(rows) + 1}/{len(jobs)}] {job.name}")
        return progress()

    for job, row in finish_all([job for job in jobs if job not in rows], start, cluster):
        rows[job] = row
        write([rows[job] for job in jobs if job in rows])
        tell(f"[{len(rows)}/{len(jobs)}] {job.name}: {shown(Run(job.comparison.shared, job.path, row).figures)}")
    return [rows[job] for job in jobs]
