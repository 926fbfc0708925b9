"""The command line: it parses, calls a room, prints."""

from aconite.cli.main import main

__all__ = ["main"]
