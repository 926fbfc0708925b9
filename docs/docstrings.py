"""Lets the docstrings be written for a reader of the source: mathematics in them is not taken for reST markup."""

import re

MARKUP = re.compile(r"\*(?=\))|(?<!\\)\|")  # (N, C, *) is no emphasis, |β| no substitution


def plain(app, what, name, obj, options, lines):
    in_block = False
    for number, line in enumerate(lines):
        starts_block = line.lstrip().startswith((">>>", ".. math::"))
        in_block = bool(line.strip()) and (in_block or starts_block)
        if not in_block:
            lines[number] = MARKUP.sub(r"\\\g<0>", line)
    if what in ("data", "attribute"):
        lines.insert(0, r"\ ")  # else napoleon takes what stands before a colon in the first line for the type


def setup(app):
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
