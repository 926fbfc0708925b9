"""How Swish was found: a search over functions, shared by any number of processes; the one door of Optuna.

>>> settings = SearchSettings(space="maxout")
>>> settings.make_space().name, settings.strategy
('maxout', 'exhaustive')
"""

from __future__ import annotations

from aconite.errors import MissingExtraError

try:
    import optuna as _optuna  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "optuna").partition(".")[0], "search") from error

from aconite.lab.costs import Cost
from aconite.lab.search.leaderboard import Finalist
from aconite.lab.search.search import Search, search
from aconite.lab.search.settings import SearchSettings
from aconite.lab.search.space import BINARY, FAMILY, UNARY, Candidate, Space
from aconite.lab.search.table import print_search

__all__ = [
    "BINARY",
    "FAMILY",
    "UNARY",
    "Candidate",
    "Cost",
    "Finalist",
    "Search",
    "SearchSettings",
    "Space",
    "print_search",
    "search",
]
