"""The page is one self-contained file, written whole, in which nothing runs or loads that we did not write."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from aconite.errors import DataError, SettingsError
from aconite.report import LayerParameters, Page, activation_curves, beta_histograms, training_curves

HOSTILE = "<script>alert(1)</script><img src=https://example.org/x onerror=alert(1)>\"'&{{ 7 * 7 }}$\\frac$"


class Document(html.parser.HTMLParser):
    """What a browser would see: elements with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


SVG = {"svg", "defs", "g", "path", "use", "text", "tspan", "clippath", "rect", "image"}


def outside_svg(document: Document) -> list[str]:
    """The tags that are not a drawing's: a long name changes how many ticks a figure has room for."""
    return [tag for tag, _ in document.elements if tag not in SVG]


def sample(name: str = "acon-c") -> Page:
    page = Page(f"Report {name}", subtitle=name)
    page.text(name, heading=name)
    page.table([name, "error"], [[name, 1.0], ["relu", None]], caption=name, note=name)
    page.figure(training_curves({name: [[2.0, 1.0]] * 2}, {name: [[3.0, 2.0]] * 2}), alt=name, caption=name)
    many, few = [1.0] * 70, [0.5] * 3
    layers = {name: LayerParameters(many, many, many), "last": LayerParameters(few, few, few)}
    page.figure(activation_curves(layers), alt=name, caption=name)
    page.figure(beta_histograms({name: [0.0, 1.0], "relu": [1.0]}, title=name), alt=name, caption=name)
    return page


def test_hostile_names_are_only_text() -> None:
    plain, hostile = Document(sample().render()), Document(sample(HOSTILE).render())
    assert outside_svg(hostile) == outside_svg(plain)
    handlers = [name for _, attributes in hostile.elements for name in attributes if name.startswith("on")]
    assert handlers == []
    shown = "".join(hostile.text)
    assert shown.count(HOSTILE) == 12, "title, h1, subtitle, h2, p, column, row, caption, note, three figcaptions"
    assert shown.count("<script>alert(1)</script><img") == 12 + 4, "and on a line of its own in every figure"
    assert hostile.values("aria-label").count(HOSTILE) == 3


@pytest.mark.parametrize("name", ["acon-c", HOSTILE])
def test_nothing_points_outside_the_file(name: str) -> None:
    document = Document(sample(name).render())
    for attribute in ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"):
        for value in document.values(attribute):
            assert value.startswith(("#", "data:image/png;base64,")), (attribute, value)
    assert not [tag for tag, _ in document.elements if tag in ("link", "base", "iframe", "object", "embed", "img")]


def test_no_address_at_all_in_a_plain_page() -> None:
    text = sample().render()
    assert re.findall(r"https?:|//[a-z]+\.", re.sub(r"base64,[^\"]*", "", text)) == []
    assert re.findall(r"url\((?!#)|@import", text) == []


def test_policy_names_the_script_that_is_there() -> None:
    text = sample(HOSTILE).render()
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_references_resolve() -> None:
    page = sample()
    page.figure(training_curves({"relu": [[1.0]]}, {"relu": [[1.0]]}), alt="once")
    page.figure(training_curves({"relu": [[1.0]]}, {"relu": [[1.0]]}), alt="and the same again")
    text = page.render()
    document = Document(text)
    ids = Counter(document.values("id"))
    assert [identifier for identifier, count in ids.items() if count > 1] == []
    references = re.findall(r"url\(#([^)]+)\)", text)
    references += [value[1:] for value in document.values("href") if value.startswith("#")]
    references += document.values("aria-labelledby")
    assert len(references) > 20
    assert set(references) <= set(ids)


def test_figures_are_described_and_their_text_is_text() -> None:
    document = Document(sample().render())
    pictures = [attributes for tag, attributes in document.elements if tag == "svg"]
    assert [(svg["role"], svg["aria-label"]) for svg in pictures] == [("img", "acon-c")] * 3
    assert "epoch" in document.text
    assert "β" in document.text


def test_headings_descend_one_level_at_a_time() -> None:
    document = Document(sample().render())
    assert [tag for tag, _ in document.elements if re.fullmatch("h[1-6]", tag)] == ["h1", "h2"]
    assert document.elements[[tag for tag, _ in document.elements].index("body") + 1] == (
        "a",
        {"class": "skip", "href": "#main"},
    )


def test_the_same_content_gives_the_same_bytes() -> None:
    assert sample().render() == sample().render()


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_another_process_gives_the_same_bytes_and_needs_no_pyplot() -> None:
    """Sets and hash() change between processes; pyplot brings global state and a search for a window system."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['matplotlib.pyplot'] = None\n"
        "import test_page; sys.stdout.reconfigure(encoding='utf-8'); print(test_page.sample().render(), end='')"
    )
    assert python(code, str(Path(__file__).parent), PYTHONHASHSEED="7") == sample().render()


def test_global_settings_of_matplotlib_stay_and_do_not_matter() -> None:
    before = dict(matplotlib.rcParams)
    plain = sample().render()
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context(
        {"text.usetex": False, "axes.facecolor": "red", "svg.fonttype": "path", "axes.grid": True}
    ):
        assert sample().render() == plain


def test_a_figure_stays_as_it_was_added() -> None:
    figure = Figure()
    figure.add_subplot().plot([1, 2], color="black")
    page = Page("t")
    page.figure(figure, alt="a line")
    before = page.render()
    figure.axes[0].set_title("later")
    assert page.render() == before
    assert "light-dark(#000000, #e6e9ee)" in before, "a foreign figure's black follows the theme too"


def test_control_characters_do_not_break_a_figure() -> None:
    page = Page("t\x00")
    page.figure(beta_histograms({"a\x01b": [1.0]}), alt="x\x02")
    assert "a\N{REPLACEMENT CHARACTER}b" in page.render()


def test_long_names_leave_room_for_the_axes() -> None:
    name = "x * sigmoid(beta * x) + " * 8
    for figure in (
        training_curves({name: [[1.0, 2.0]]}, {name: [[1.0, 2.0]]}),
        activation_curves({name + str(at): LayerParameters([1.0], [0.0], [1.0]) for at in range(3)}),
        beta_histograms({name: [1.0, 2.0], "relu": [1.0]}, title=name),
    ):
        Page("t").figure(figure, alt="long names")
        assert all(axes.get_position().width > 0.2 for axes in figure.axes)


def test_a_figure_needs_words() -> None:
    with pytest.raises(SettingsError, match="say in a sentence what the figure shows"):
        Page("t").figure(Figure(), alt=" ")


# Writing


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("older and much longer" * 100_000)
    page = sample()
    page.write(path)
    assert path.read_bytes() == page.render().encode()
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_write_takes_text_that_utf8_cannot_hold(tmp_path: Path) -> None:
    page = Page("folder \udcff")
    page.write(str(tmp_path / "report.html"))
    assert b"folder ?" in (tmp_path / "report.html").read_bytes()


def test_write_makes_the_folder(tmp_path: Path) -> None:
    Page("t").write(tmp_path / "new" / "report.html")
    assert os.listdir(tmp_path / "new") == ["report.html"]


@pytest.mark.parametrize("name", ["file/report.html", "folder"])
def test_write_says_why_it_cannot(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"cannot write the report .*: [A-Z]") as caught:
        Page("t").write(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files, which Windows has not")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A limit on the size of files makes a real write fail half-way, as a full disk does."""
    path = tmp_path / "report.html"
    path.write_text("old")
    code = (
        "import resource, sys; from aconite.report import Page\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: Page('t').write(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    assert python(code, str(path)) == f"DataError cannot write the report {path}: File too large\n"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Page("t").write(tmp_path / "report.html")
    assert os.listdir(tmp_path) == []


# The door


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from aconite.errors import MissingExtraError\n"
        "try: import aconite.report\n"
        "except MissingExtraError as error: print(error)"
    )
    assert python(code) == f"this needs {package}, which is not installed: pip install 'aconite[lab]'\n"
