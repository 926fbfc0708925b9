"""The main job: the same network with each activation, several seeds each, and what can be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aconite.lab.compare_page import compare_page
from aconite.lab.costs import measure_costs
from aconite.lab.data import ImageData, load, training_batches
from aconite.lab.learnt import learnt
from aconite.lab.progress import Progress
from aconite.lab.rows import Row, cell_row, cost_row, recorded_settings
from aconite.lab.run_folder import RunFolder
from aconite.lab.settings import CompareSettings
from aconite.lab.summary import Line, summarise
from aconite.lab.training import Cell, new_task, train

__all__ = ["Comparison", "compare", "train_cell"]

_COST_SECONDS = 10.0


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: a line per activation, the rows behind them, and the page that shows them."""

    settings: CompareSettings
    lines: Sequence[Line]
    rows: Sequence[Row]
    report: Path


def compare(settings: CompareSettings, out: Path | str, progress: Progress | None = None) -> Comparison:
    """Trains every cell that is not finished yet, measures the costs, and writes rows.jsonl and report.html to ``out``.

    Killed at any moment and started again, it goes on from the last finished epoch, and on a CPU with the same number
    of threads it comes to the same rows, times aside.

    Raises:
        DataError: the data cannot be used as they are.
        SettingsError: ``out`` cannot be written.
        CheckpointError: ``out`` holds a run with other settings.
        OSError: the disk is full, for instance; what was finished stays.
    """
    with progress or Progress() as display:
        data = load(settings.data, settings.image_size)
        folder = RunFolder(Path(out), recorded_settings(settings, data), display.note)
        contents = _finish_cells(settings, data, folder, display)
        cells = [content["row"] for content in contents]
        costs = folder.costs()
        if costs is None:
            display.stage("measuring what each activation costs")
            costs = _measure(settings, data)
            folder.set_costs(costs)
        folder.write_rows(cells + costs)
        lines = summarise(cells, costs, settings.activations, settings.baseline)
        good = [content for content in contents if not content["row"]["diverged"]]
        shown = {content["row"]["activation"]: content["learnt"] for content in reversed(good)}  # the lowest seed's
        ordered = {name: shown[name] for name in settings.activations if name in shown}
        compare_page(settings, lines, cells, ordered).write(folder.report)
    return Comparison(settings, lines, cells + costs, folder.report)


def _finish_cells(settings: CompareSettings, data: ImageData, folder: RunFolder, progress: Progress) -> list[Row]:
    """Every cell's content; seeds come before activations, so that what is there early can be compared."""
    cells = [Cell(seed, name) for seed in range(settings.seeds) for name in settings.activations]
    contents = {cell: content for cell in cells if (content := folder.finished(cell)) is not None}
    progress.begin(len(cells), len(contents), settings.epochs, len(data.train_labels))
    for cell in cells:
        if cell in contents:
            continue
        contents[cell] = train_cell(cell, settings, data, folder, progress)
        folder.write_rows([contents[done]["row"] for done in cells if done in contents])
        progress.finish(contents[cell]["row"]["error"])
    return [contents[cell] for cell in cells]


def train_cell(cell: Cell, settings: CompareSettings, data: ImageData, folder: RunFolder, progress: Progress) -> Row:
    """Trains a cell and writes its file, whose content is returned: its row and what its activations have learnt."""
    task = train(cell, settings, data, folder.checkpoints(cell), progress)
    row = cell_row(cell, task.history, settings, data)
    content = {"row": row, "learnt": learnt(task, data) if not row["diverged"] else None}
    folder.finish(cell, content)
    return content


def _measure(settings: CompareSettings, data: ImageData) -> list[Row]:
    tasks = {
        name: new_task(Cell(0, name), settings, data).to(settings.resolved_device) for name in settings.activations
    }
    images, labels, shifts, flips = (
        part.to(settings.resolved_device) for part in next(iter(training_batches(data, settings.batch_size, seed=0)))
    )
    costs = measure_costs(tasks, settings.baseline, (images, labels, shifts, flips), _COST_SECONDS)
    return [cost_row(name, cost, settings, data) for name, cost in costs.items()]
