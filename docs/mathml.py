"""Formulas as MathML, which browsers draw themselves: no script, no font and no image to load.

docutils brings the converter; Sphinx offers it only to docutils' own HTML writer.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)

# What LaTeX knows and the converter does not.
SPELLINGS = ((r"\dots", r"\ldots"), (r"\Big/", "/"), ("''", r"\text{″}"), ("'", r"\text{′}"))


def visit(writer, node):
    source = node.astext()
    for latex, spelling in SPELLINGS:
        source = source.replace(latex, spelling)
    try:
        writer.body.append(tex2mathml(source, as_block=isinstance(node, nodes.math_block)))
    except MathError as error:
        log.warning("%s in the formula %s", error, node.astext(), location=node)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
