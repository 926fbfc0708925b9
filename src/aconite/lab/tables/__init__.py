"""The paper's tables: published figures beside what is counted, found and measured here."""

from aconite.lab.tables.costs import CostSettings, NetworkCost
from aconite.lab.tables.counting import Counts, count_elementwise
from aconite.lab.tables.data import table_csv, table_json
from aconite.lab.tables.measured import MeasuredTable, measure_table
from aconite.lab.tables.page import check_bars, table_page, write_bars
from aconite.lab.tables.printed import PublishedRow, PublishedTable
from aconite.lab.tables.published import published_table, published_tables
from aconite.lab.tables.rendering import print_measured
from aconite.lab.tables.results import find_rows
from aconite.lab.tables.training import train_table, train_table_runs

__all__ = [
    "CostSettings",
    "Counts",
    "MeasuredTable",
    "NetworkCost",
    "PublishedRow",
    "PublishedTable",
    "check_bars",
    "count_elementwise",
    "find_rows",
    "measure_table",
    "print_measured",
    "published_table",
    "published_tables",
    "table_csv",
    "table_json",
    "table_page",
    "train_table",
    "train_table_runs",
    "write_bars",
]
