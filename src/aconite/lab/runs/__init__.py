"""Training at full scale: classification, detection, segmentation, on one device or many.

    options.py      settings as records that TOML and the command line fill
    settings.py     what each task is told; recipes.py: named sets of it, in the folder recipes
    kinds/          a task: its data, network, training and predictions
    experiment.py   what all trainings share, for Lightning; rates.py: optimiser and learning rate
    engine.py       Lightning's trainer; run.py: one run from start or checkpoint to its row; folder.py: its files
    progress.py     what a person sees of it

Needs the extra vision beside lab.
"""

from aconite.lab.runs.kinds import KINDS, Kind, OpenData, kind_of
from aconite.lab.runs.options import Option, options_of, read_value
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
    "Run",
    "RunProgress",
    "RunSettings",
    "SegmentationSettings",
    "is_first_process",
    "kind_of",
    "options_of",
    "read_value",
    "recipes",
    "resolve",
    "run_progress",
    "settings_toml",
    "shown",
    "train",
]
