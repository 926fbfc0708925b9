"""The parser that all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from aconite.errors import SettingsError, UnknownNameError

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other mistake is told."""

    fill: Callable[[argparse.ArgumentParser], None] | None = None
    """Adds options once they are needed: those that are known only to a room that is slow to import."""

    instead: Callable[[Sequence[str]], argparse.ArgumentParser | None] | None = None
    """The parser that reads these words in place of this one, if there is one for them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.instead is not None and (other := self.instead(args)) is not None:
            return other.parse_known_args(args, namespace)
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and not unknown[0].startswith("-"):
            self.error(f"{unknown[0]!r} is a word too many")
        if unknown:  # here, where this command's options are known; argparse leaves it to the program's parser
            raise UnknownNameError("option", unknown[0].partition("=")[0], self._option_string_actions)
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} (see {self.prog} --help)")
