"""Figures, and one self-contained HTML page to put them in.

The figures are `matplotlib.figure.Figure` objects made without pyplot, so nothing global changes and no
window system is needed; save them as any other figure, or hand them to a `Page`. This room is the one door of
matplotlib and jinja2: without them, importing it raises `MissingExtraError`.

>>> page = Page("Which activation?", subtitle="digits, 3 seeds")
>>> page.table(["activation", "test error %"], [["relu", 3.25], ["acon-c", 2.5]])
>>> curves = training_curves({"relu": [[9.0, 4.0]]}, {"relu": [[9.5, 5.0]]})
>>> page.figure(curves, alt="Error of relu over two epochs.")
>>> page.render().startswith("<!doctype html>")
True
"""

from __future__ import annotations

from aconite.errors import MissingExtraError

try:
    import jinja2 as _jinja2  # noqa: F401
    import matplotlib as _matplotlib  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError((error.name or "matplotlib").partition(".")[0], "lab") from error

from aconite.report.bars import gain_bars
from aconite.report.channels import LayerParameters
from aconite.report.explorer import explorer_page, write_explorer
from aconite.report.expressions import expression_curves
from aconite.report.family_curves import family_curves, maxout_pairs, switching_curves
from aconite.report.figure_file import check_figure_name, write_figure
from aconite.report.figures import activation_curves, beta_histograms, training_curves
from aconite.report.function_curves import Curve, curve, function_curves
from aconite.report.intervals import Interval, interval_chart
from aconite.report.layer_figures import layer_spread, state_bars
from aconite.report.learning import write_learning
from aconite.report.page import Page
from aconite.report.palette import colour
from aconite.report.run_figures import metric_curves, network_errors

__all__ = [
    "Curve",
    "Interval",
    "LayerParameters",
    "Page",
    "activation_curves",
    "beta_histograms",
    "check_figure_name",
    "colour",
    "curve",
    "explorer_page",
    "expression_curves",
    "family_curves",
    "function_curves",
    "gain_bars",
    "interval_chart",
    "layer_spread",
    "maxout_pairs",
    "metric_curves",
    "network_errors",
    "state_bars",
    "switching_curves",
    "training_curves",
    "write_explorer",
    "write_figure",
    "write_learning",
]
