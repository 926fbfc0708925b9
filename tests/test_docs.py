"""What the pages say is run: their Python examples, and their command lines as far as the tool's settings."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from aconite import cli
from aconite.cli.main import _parser
from aconite.cli.train import TASKS

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


def commands() -> list[str]:
    """The tool's command lines on all pages, what starts several of them left out."""
    lines = {
        line.removeprefix("$ ")
        for page in PAGES
        for language in ("console", "sh", "bash")
        for _, content in blocks(page, language)
        for line in content.replace("\\\n", " ").splitlines()
        if line.startswith("$ ") or language == "bash"
    }
    found = (re.match(r"(?:(?:torchrun|srun) .*?)?aconite ((?:[a-z]+-?)+ .*|demo)$", line) for line in lines)
    return sorted({" ".join(match[1].split()) for match in found if match})


@pytest.mark.parametrize("command", commands())
def test_command_lines_are_understood(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def reached(*_: object, **__: object) -> None:
        raise ReachedTraining

    for job in ("lab.compare", "lab.compare_jobs", "lab.finish_cells", "lab.run_study", "lab.runs.compare_runs",
                "lab.runs.train"):  # fmt: skip
        monkeypatch.setattr(f"aconite.{job}", reached)
    monkeypatch.chdir(tmp_path)
    (mine,) = (content for _, content in blocks(ROOT / "docs" / "training.md", "toml") if "mine.toml" in content)
    Path("mine.toml").write_text(mine)
    words = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", "3"), comments=True)
    if "--help" in words:
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main(words)
    elif words[0] in ("demo", "compare", "train"):
        with pytest.raises(ReachedTraining):
            cli.main(words)
    else:
        assert callable(_parser().parse_args(words).run)


def test_the_pages_have_examples_and_commands() -> None:
    """The two collections above are not empty by an accident of their patterns."""
    assert blocks(ROOT / "README.md", "python")
    assert blocks(ROOT / "docs" / "from-relu-to-acon.md", "python")
    starts = ["demo", "compare --data", "compare --task", "compare --study", "table", "predict"]
    for start in [*starts, *(f"train {task}" for task in TASKS)]:
        assert any(command.startswith(start) for command in commands()), start
