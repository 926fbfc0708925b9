"""Lists of names on the command line."""

from __future__ import annotations

__all__ = ["names"]


def names(text: str) -> tuple[str, ...]:
    """Names and formulas between commas; the commas inside a formula's brackets are its own.

    >>> names("relu, max(x, 0),acon-c")
    ('relu', 'max(x, 0)', 'acon-c')
    """
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return tuple(name.strip() for name in parts if name.strip())
