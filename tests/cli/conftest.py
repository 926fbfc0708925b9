"""The command line as a user calls it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aconite.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls a command; gives its exit status and what it printed on both streams."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return call
