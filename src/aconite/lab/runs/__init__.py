"""Training at full scale: classification, detection, segmentation, on one device or many.

    options.py      settings as records that TOML and the command line fill
    settings.py     what each task is told; recipes.py: named sets of it, in the folder recipes
    kinds/          a task: its data, network, training and predictions
    experiment.py   what all trainings share, for Lightning; rates.py: optimiser and learning rate
    batches.py      each process's share of the data, and how long a run is
    engine.py       Lightning's trainer; run.py: one run from start or checkpoint to its row; folder.py: its files
    step_checkpoints.py   checkpoints within an epoch
    progress.py     what a person sees of it
    finished.py     a finished run's network; evaluation.py, prediction.py: what is done with it
    comparison.py   runs with each activation and seed, and what they say together; speed.py: images a second

Needs the extra vision beside lab.
"""

from aconite.lab.runs.comparison import RunJob, RunsComparison, RunsSettings, compare_runs, finish_runs, run_jobs
from aconite.lab.runs.comparison_page import runs_tables
from aconite.lab.runs.evaluation import evaluate
from aconite.lab.runs.finished import TrainedNetwork, load_run
from aconite.lab.runs.kinds import KINDS, Kind, OpenData, kind_of
from aconite.lab.runs.options import Option, options_of, read_value
from aconite.lab.runs.prediction import Predictions, predict
from aconite.lab.runs.progress import RunProgress, is_first_process, run_progress, shown
from aconite.lab.runs.recipes import recipes, resolve, settings_toml
from aconite.lab.runs.run import Run, train
from aconite.lab.runs.settings import ClassificationSettings, DetectionSettings, RunSettings, SegmentationSettings

__all__ = [
    "KINDS",
    "ClassificationSettings",
    "DetectionSettings",
    "Kind",
    "OpenData",
    "Option",
    "Predictions",
    "Run",
    "RunJob",
    "RunProgress",
    "RunSettings",
    "RunsComparison",
    "RunsSettings",
    "SegmentationSettings",
    "TrainedNetwork",
    "compare_runs",
    "evaluate",
    "finish_runs",
    "is_first_process",
    "kind_of",
    "load_run",
    "options_of",
    "predict",
    "read_value",
    "recipes",
    "resolve",
    "run_jobs",
    "run_progress",
    "runs_tables",
    "settings_toml",
    "shown",
    "train",
]
