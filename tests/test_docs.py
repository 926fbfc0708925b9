"""What the pages say is run: their Python examples, and their command lines as far as the tool's settings."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from aconite import cli, lab

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")]
PAGES += sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
FENCE = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line number, content) of the page's code blocks in a language."""
    text = page.read_text("utf-8")
    found = (match for match in FENCE.finditer(text) if match["language"] == language)
    return [(text.count("\n", 0, match.start("content")), match["content"]) for match in found]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_examples_of_a_page(page: Path) -> None:
    """The blocks of a page share their names, top to bottom, as a reader types them."""
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for line, content in blocks(page, "python"):
        examples = doctest.DocTestParser().get_doctest(content, names, name(page), str(page), line)
        assert examples.examples, f"{name(page)}:{line + 1} is a python block without >>>"
        runner.run(examples, clear_globs=False)
        names = examples.globs
    assert runner.failures == 0


class ReachedTraining(Exception):
    """The command line was understood and its settings are valid."""


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            line.removeprefix("$ ")
            for page in PAGES
            for language in ("console", "sh")
            for _, content in blocks(page, language)
            for line in content.replace("\\\n", " ").splitlines()
            if re.match(r"\$ aconite (demo|compare)\b", line)
        }
    ),
)
def test_command_lines_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(settings: object, out: object, progress: object = None) -> None:
        raise ReachedTraining

    monkeypatch.setattr(lab, "compare", reached)
    monkeypatch.setattr(lab, "run_study", reached)
    with pytest.raises(ReachedTraining):
        cli.main(shlex.split(command, comments=True)[1:])


def test_the_pages_have_examples_and_commands() -> None:
    """The two collections above are not empty by an accident of their patterns."""
    assert blocks(ROOT / "README.md", "python")
    assert blocks(ROOT / "docs" / "from-relu-to-acon.md", "python")
    assert any("$ aconite compare" in content for _, content in blocks(ROOT / "docs" / "compare.md", "console"))
