from __future__ import annotations

import subprocess
from pathlib import Path

from aconite.provenance import _commit


def test_commit_of_the_checkout_alone(tmp_path: Path) -> None:
    source = tmp_path / "src" / "aconite" / "provenance.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    assert _commit(source) is None  # installed: no checkout around it

    def git(*arguments: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *name, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert _commit(source) == git("rev-parse", "HEAD")
    source.write_text("x = 2\n")
    assert _commit(source) == git("rev-parse", "HEAD") + "-dirty"
    elsewhere = tmp_path / "venv" / "lib" / "aconite" / "provenance.py"
    elsewhere.parent.mkdir(parents=True)
    assert _commit(elsewhere) is None
