"""The explorer in a real browser: what it shows is what the library computes, on any screen, by mouse or keyboard."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import aconite
from aconite.errors import DataError
from aconite.report import explorer_page, write_explorer

_spec = importlib.util.spec_from_file_location("page_in_a_browser", Path(__file__).with_name("test_browser.py"))
assert _spec is not None
assert _spec.loader is not None
_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_pages)
in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(_pages.CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]


def test_page_is_whole_and_the_same_each_time(tmp_path: Path) -> None:
    write_explorer(tmp_path / "new" / "explorer.html")
    assert (tmp_path / "new" / "explorer.html").read_text("utf-8") == explorer_page()
    assert "http" not in explorer_page().replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write the explorer .*file"):
        write_explorer(tmp_path / "file" / "explorer.html")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    browser = _pages.Browser(tmp_path_factory.mktemp("profile"))
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture
def explorer(tab: Any, tmp_path: Path) -> Any:
    path = tmp_path / "explorer.html"
    write_explorer(path)
    tab.requests.clear()
    tab.complaints.clear()
    tab.prefer("light")
    tab.width(1200)
    tab.open(path)
    return tab


def number(tab: Any, name: str) -> float:
    return float(tab.evaluate(f"document.getElementById('{name}').dataset.value"))


def put(tab: Any, **values: float | str) -> None:
    for name, value in values.items():
        tab.evaluate(f"""{{
            const input = document.getElementById({name!r}); input.value = {str(value)!r};
            input.dispatchEvent(new Event("input"));
        }}""")


PAIRS: dict[str, Any] = {
    "0": lambda x, p: 0 * x,
    "1": lambda x, p: 1 + 0 * x,
    "-1": lambda x, p: -1 + 0 * x,
    "x": lambda x, p: x,
    "-x": lambda x, p: -x,
    "p": lambda x, p: p * x,
    "tanh": lambda x, p: math.tanh(x) if isinstance(x, float) else x.tanh(),
}


@pytest.mark.parametrize(
    ("a", "b"), [("x", "0"), ("x", "p"), ("p", "p"), ("x", "1"), ("tanh", "-1"), ("-x", "x"), ("p", "tanh")]
)
@pytest.mark.parametrize(("p1", "p2", "beta", "x"), [(1.2, -0.8, 1.5, 0.7), (-1, 0.5, -2, -3), (0.3, 1.1, 0, 2.5)])
class TestValues:
    pytestmark = in_a_browser

    def test_are_the_library_s(
        self, explorer: Any, a: str, b: str, p1: float, p2: float, beta: float, x: float
    ) -> None:
        put(explorer, **{"a": a, "b": b, "p1-number": p1, "p2-number": p2, "beta-number": beta, "x-number": x})
        at = torch.tensor(float(x), dtype=torch.float64, requires_grad=True)
        one, other = PAIRS[a](at, p1), PAIRS[b](at, p2)
        y = aconite.reference.acon(one, other, float(beta))
        [slope] = torch.autograd.grad(y, at)
        assert number(explorer, "value") == pytest.approx(y.item(), abs=1e-12)
        assert number(explorer, "slope") == pytest.approx(slope.item(), abs=1e-12)
        sharp = (torch.minimum if beta < 0 else torch.maximum)(one, other)
        assert number(explorer, "sharp") == pytest.approx(sharp.item(), abs=1e-12)
        if beta:
            assert number(explorer, "distance") == pytest.approx(aconite.reference.DEVIATION / abs(beta), abs=1e-9)
        self._bounds(explorer, a, b, (p1, p2, beta))
        line = explorer.evaluate("document.getElementById('code').textContent")
        names = {"aconite": aconite, "torch": torch, "x": at.detach()}
        exec(line, names)  # the line to paste runs, and gives the value that the page shows
        assert float(names["y"]) == pytest.approx(number(explorer, "value"), abs=1e-12)
        assert explorer.complaints == []

    def _bounds(self, explorer: Any, a: str, b: str, values: tuple[float, float, float]) -> None:
        """Of two lines those of the library; of others the least and greatest on the drawn range."""
        p1, p2, beta = values
        shown = number(explorer, "least"), number(explorer, "greatest")
        if beta and {a, b} <= {"x", "0", "p", "-x"}:
            slopes = (torch.tensor(PAIRS[name](1.0, p), dtype=torch.float64) for name, p in ((a, p1), (b, p2)))
            least, greatest = aconite.reference.acon_c_bounds(*slopes)
            assert shown == pytest.approx((float(least), float(greatest)), abs=1e-9)
            return
        grid = torch.linspace(-5, 5, 401, dtype=torch.float64, requires_grad=True)
        y = aconite.reference.acon(PAIRS[a](grid, p1), PAIRS[b](grid, p2), float(beta))
        [slope] = torch.autograd.grad(y.sum(), grid)
        assert shown == pytest.approx((float(slope.min()), float(slope.max())), abs=1e-9)


class TestPage:
    pytestmark = in_a_browser

    def test_loads_nothing_and_keeps_what_is_set_in_the_address(self, explorer: Any, tmp_path: Path) -> None:
        put(explorer, a="x", b="p", **{"p2-number": 0.125, "beta-number": -4})
        explorer.evaluate("window.kept = null")
        for _ in range(50):
            if "0.125" in explorer.evaluate("location.hash"):
                break
            explorer.call("Runtime.evaluate", expression="new Promise(done => setTimeout(done, 50))", awaitPromise=True)
        link = explorer.evaluate("location.hash")
        put(explorer, a="p", **{"p2-number": 2})
        explorer.evaluate(f"location.hash = {link!r}; dispatchEvent(new Event('hashchange'))")
        assert explorer.evaluate("[a.value, b.value, document.getElementById('p2-number').value]") == [
            "x",
            "p",
            "0.125",
        ]
        assert explorer.evaluate("document.getElementById('code').textContent").endswith("acon_b(x, p2=0.125, beta=-4)")
        assert "min(x, p2·x)" in explorer.evaluate("document.getElementById('name').textContent")
        outside = [url for url in explorer.requests if not url.startswith(("file:", "data:"))]
        assert outside == []
        assert explorer.complaints == []

    def test_bad_addresses_change_nothing(self, explorer: Any) -> None:
        explorer.evaluate("location.hash = '#a=constructor&p1=abc&beta=&q=1'; dispatchEvent(new Event('hashchange'))")
        assert explorer.evaluate("[a.value, b.value, p1.value, beta.value]") == ["p", "p", "1", "1"]
        assert explorer.complaints == []

    def test_keyboard_moves_a_slider(self, explorer: Any) -> None:
        before = number(explorer, "value")
        explorer.evaluate("document.getElementById('beta').focus()")
        explorer.press("ArrowRight", 39)
        assert explorer.evaluate("document.getElementById('beta-number').value") == "1.05"
        x, beta = 1.0, 1.05
        assert number(explorer, "value") == pytest.approx(x / (1 + math.exp(-beta * x)), abs=1e-12)
        assert number(explorer, "value") > before
        first = "document.querySelector('.presets button')"
        explorer.evaluate(f"{first}.focus()")
        explorer.press("Enter", 13, "\r")
        assert explorer.evaluate("document.getElementById('name').textContent").startswith("ACON-A, known as Swish")
        assert explorer.evaluate("document.getElementById('p1').disabled") is True

    def test_curve_lies_where_its_values_are(self, explorer: Any) -> None:
        put(explorer, **{"p1-number": 1.2, "p2-number": -0.8, "beta-number": 1})
        box = explorer.evaluate(
            "[document.getElementById('function').clientWidth, document.getElementById('function').clientHeight]"
        )
        path = explorer.evaluate("document.querySelector('#function .curve').getAttribute('d')")
        points = torch.tensor([[float(part) for part in point.split()] for point in path[1:].split("L")])
        x = (points[:, 0] - box[0] / 2) / (box[0] / 2 - 4) * 5
        y = (box[1] / 2 - points[:, 1]) / (box[1] / 2 - 4) * 5
        seen = y.abs() < 5
        assert int(seen.sum()) > 300
        assert torch.allclose(y[seen], aconite.reference.acon_c(x, 1.2, -0.8, 1.0)[seen], atol=0.03)

    def test_every_control_has_a_name(self, explorer: Any) -> None:
        nameless = explorer.evaluate("""[...document.querySelectorAll("input, select, button, svg")]
            .filter(part => !(part.labels?.length || part.getAttribute("aria-label") || part.textContent.trim()))
            .map(part => part.id)""")
        assert nameless == []

    def test_a_phone_shows_curves_and_sliders_together(self, explorer: Any, tmp_path: Path) -> None:
        explorer.width(360)
        assert explorer.evaluate("document.documentElement.scrollWidth") == 360
        explorer.evaluate("document.getElementById('beta').scrollIntoView({block: 'center'})")
        box = "(id => document.getElementById(id).getBoundingClientRect())"
        assert explorer.evaluate(f"{box}('function').top") >= 0
        assert explorer.evaluate(f"{box}('beta').top > {box}('function').bottom")
        assert explorer.evaluate(f"{box}('beta').bottom") < 900
        assert explorer.evaluate(f"{box}('beta').width") > 120

    def test_dark_follows_the_system(self, explorer: Any) -> None:
        colour = "getComputedStyle(document.querySelector('.curve')).stroke"
        light = explorer.evaluate(colour)
        explorer.prefer("dark")
        assert explorer.evaluate(colour) != light
        assert explorer.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
