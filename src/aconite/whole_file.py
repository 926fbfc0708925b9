"""Files that are either whole or not there; a leaf."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes beside ``path`` and renames; where that fails, what was at ``path`` stays and nothing else is left.

    A killed process may leave the hidden file ``.NAME.part``, which the next writing of the same file replaces.

    Raises:
        OSError: it cannot be written; the error names ``path``, which Python's own does not where a disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
