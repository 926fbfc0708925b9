"""The site's settings. What a page shows is made here, from the package itself; nothing is loaded from a network."""

import sys
from pathlib import Path

import aconite

sys.path.insert(0, str(Path(__file__).parent))

project = "Aconite"
author = copyright = "the Aconite authors"
version = release = aconite.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "generated", "mathml"]
exclude_patterns = ["_build", "assets"]
nitpicky = True  # a reference that leads nowhere is a warning, and a warning fails the build
nitpick_ignore_regex = [
    ("py:.*|any", r"(torch|collections|typing|os|pathlib|matplotlib|lightning|rich)\..*"),
    ("py:.*", r"Tensor|optional"),
    ("py:class", r"(aconite\..*\.)?(Row|_?Model|Plan|Findings)"),
    ("py:class", r"(aconite\..*\.)?(_Job|Cell|Source|Path|nn\.Module|Experiment|Prediction|Problem|Standing|Metric)"),
    ("any", r"[a-z0-9_ ]+"),  # a parameter or a command in single backticks
]

myst_enable_extensions = ["attrs_inline", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_update_mathjax = False

default_role = "any"  # the docstrings write `AconC`
autodoc_inherit_docstrings = False  # torch's own words on `extra_repr` are not about our layers
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]
maximum_signature_line_length = 88

html_theme = "furo"
html_title = "Aconite"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["assets"]
html_css_files = ["site.css"]
