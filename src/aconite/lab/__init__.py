"""Experiments: training, comparing and what can be concluded; the one door of Lightning.

>>> settings = CompareSettings(activations=("relu", "acon-c"), seeds=5)
>>> settings.model
'resnet8'
"""

from __future__ import annotations

from aconite.errors import MissingExtraError

try:
    import lightning as _lightning  # noqa: F401
    import rich as _rich  # noqa: F401
    import scipy as _scipy  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "lightning").partition(".")[0], "lab") from error

from aconite.lab.cluster import Cluster
from aconite.lab.comparison import CellJob, Comparison, compare, compare_jobs, finish_cells
from aconite.lab.data import ImageData, load
from aconite.lab.finished import errors_by_network, learnt_beta, learnt_layers, training_errors
from aconite.lab.inspection import (
    Inspection,
    Subject,
    inspect,
    inspection_json,
    inspection_page,
    print_inspection,
    subject,
)
from aconite.lab.jobs import Job
from aconite.lab.learning import learnt_epochs
from aconite.lab.progress import Progress, progress_for
from aconite.lab.settings import CompareSettings
from aconite.lab.statistics import PairedDifference
from aconite.lab.study import Study, StudySettings, print_study, run_study, study_jobs, study_settings
from aconite.lab.summary import Line
from aconite.lab.table import print_columns, print_table
from aconite.lab.tables import (
    CostSettings,
    Counts,
    MeasuredTable,
    NetworkCost,
    PublishedRow,
    PublishedTable,
    check_bars,
    count_elementwise,
    find_rows,
    measure_table,
    print_measured,
    published_table,
    published_tables,
    table_csv,
    table_json,
    table_page,
    train_table,
    train_table_runs,
    write_bars,
)
from aconite.lab.tasks import EpochResult

__all__ = [
    "CellJob",
    "Cluster",
    "CompareSettings",
    "Comparison",
    "CostSettings",
    "Counts",
    "EpochResult",
    "ImageData",
    "Inspection",
    "Job",
    "Line",
    "MeasuredTable",
    "NetworkCost",
    "PairedDifference",
    "Progress",
    "PublishedRow",
    "PublishedTable",
    "Study",
    "StudySettings",
    "Subject",
    "check_bars",
    "compare",
    "compare_jobs",
    "count_elementwise",
    "errors_by_network",
    "find_rows",
    "finish_cells",
    "inspect",
    "inspection_json",
    "inspection_page",
    "learnt_beta",
    "learnt_epochs",
    "learnt_layers",
    "load",
    "measure_table",
    "print_columns",
    "print_inspection",
    "print_measured",
    "print_study",
    "print_table",
    "progress_for",
    "published_table",
    "published_tables",
    "run_study",
    "study_jobs",
    "study_settings",
    "subject",
    "table_csv",
    "table_json",
    "table_page",
    "train_table",
    "train_table_runs",
    "training_errors",
    "write_bars",
]
