"""The page in a real browser: it sorts, it switches its theme, and it asks for nothing but itself."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aconite.report import LayerParameters, Page, activation_curves, training_curves

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
]


class Browser:
    """One tab, driven over the DevTools protocol's pipe (messages of JSON, each ended by a zero byte, on
    descriptors 3 and 4)."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        their_in, self._out = os.pipe()
        self._in, their_out = os.pipe()
        quiet = [(os.POSIX_SPAWN_OPEN, at, os.devnull, os.O_RDWR, 0) for at in (1, 2)]
        # Through high numbers, so that putting one end on 3 or 4 cannot overwrite the other end.
        high = [(os.POSIX_SPAWN_DUP2, their_in, 103), (os.POSIX_SPAWN_DUP2, their_out, 104)]
        ends = [(os.POSIX_SPAWN_DUP2, 103, 3), (os.POSIX_SPAWN_DUP2, 104, 4)]
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        self._process = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=[*quiet, *high, *ends], setpgroup=0)
        os.close(their_in)
        os.close(their_out)
        self._unread, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has gone"
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.exceptionThrown" | "Log.entryAdded":
                self.complaints.append(json.dumps(message["params"]))
        return message

    def call(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(
            self._out,
            json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0",
        )
        while (answer := self._message()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.as_uri())
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if kind == "keyDown" and text else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    def prefer(self, scheme: str, media: str = "") -> None:
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def width(self, pixels: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=900,
            deviceScaleFactor=1,
            mobile=pixels < 600,
        )

    def screenshot(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = Page("Report", subtitle="https://example.org/ is only text")
    report.text("<img src=https://example.org/x.png>", heading="Result")
    report.table(
        ["activation", "test error %", "parameters"],
        [
            ["relu", "10.5 ± 0.2", 20_000],
            ["silu", "9.5 ± 0.1", None],
            ["acon-c", "2.5 ± 0.3", 3_000],
            ["elu", "11 ± 1", 1e6],
        ],
    )
    report.figure(training_curves({"relu": [[9.0, 4.0]]}, {"relu": [[9.5, 5.0]]}), alt="Error over two epochs.")
    parameters = LayerParameters([1.0] * 100, [0.1] * 100, [1.0] * 100)
    report.figure(activation_curves({"last": parameters}), alt="100 curves, drawn as bands.")
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.write(path)
    return path


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Browser]:
    tab = Browser(tmp_path)
    try:
        tab.prefer("light")
        tab.width(1200)
        tab.open(page)
        yield tab
    finally:
        tab.close()


FIRST_COLUMN = "[...document.querySelectorAll('tbody th')].map(cell => cell.textContent)"
WRITTEN = ["relu", "silu", "acon-c", "elu"]


def test_nothing_is_loaded_but_the_page(browser: Browser, page: Path) -> None:
    outside = [
        url for url in browser.requests if not url.startswith("data:") and url not in (page.as_uri(), "about:blank")
    ]
    assert browser.requests.count(page.as_uri()) == 1
    assert outside == []
    assert browser.complaints == []
    assert browser.evaluate("document.images.length") == 0


def test_content_policy_stops_foreign_script_and_pictures(browser: Browser) -> None:
    """The guard behind the escaping: even markup that got in could neither run nor call home."""
    browser.evaluate("""
        window.ran = false;
        const script = document.createElement("script"); script.textContent = "window.ran = true";
        document.body.append(script); const picture = new Image(); picture.src = "https://example.org/x.png";
        document.body.append(picture);
    """)
    assert browser.evaluate("window.ran") is False
    assert sum("Content Security Policy" in text for text in browser.complaints) >= 1


def test_table_sorts_by_mouse_and_keyboard(browser: Browser) -> None:
    def click(column: int) -> None:
        browser.evaluate(f"document.querySelectorAll('thead button')[{column}].click()")

    def sort_states() -> Any:
        return browser.evaluate(
            "[...document.querySelectorAll('thead th')].map(head => head.getAttribute('aria-sort'))"
        )

    assert browser.evaluate(FIRST_COLUMN) == WRITTEN
    click(1)  # strings that begin with numbers: 9.5 before 10.5
    assert browser.evaluate(FIRST_COLUMN) == ["acon-c", "silu", "relu", "elu"]
    assert sort_states() == [None, "ascending", None]
    click(1)
    assert browser.evaluate(FIRST_COLUMN) == ["elu", "relu", "silu", "acon-c"]
    assert sort_states() == [None, "descending", None]
    click(1)
    assert browser.evaluate(FIRST_COLUMN) == WRITTEN
    assert sort_states() == [None, None, None]

    browser.evaluate("document.querySelectorAll('thead button')[2].focus()")
    browser.press("Enter", 13, "\r")  # numbers, the missing one last
    assert browser.evaluate(FIRST_COLUMN) == ["acon-c", "relu", "elu", "silu"]
    browser.press(" ", 32, " ")
    assert browser.evaluate(FIRST_COLUMN) == ["elu", "relu", "acon-c", "silu"]
    click(0)
    assert browser.evaluate(FIRST_COLUMN) == sorted(WRITTEN)
    assert sort_states() == ["ascending", None, None]


def test_first_tab_reaches_the_skip_link(browser: Browser) -> None:
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter", 13, "\r")
    assert browser.evaluate("document.activeElement.id") == "main"


COLOURS = """(() => {
    const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
    return [of("body", "backgroundColor"), of("svg text", "fill")];
})()"""


def test_theme_follows_the_system_until_the_button_is_pressed(browser: Browser) -> None:
    light, dark = ["rgb(255, 255, 255)", "rgb(27, 31, 36)"], ["rgb(21, 24, 28)", "rgb(230, 233, 238)"]
    assert browser.evaluate(COLOURS) == light
    browser.prefer("dark")
    assert browser.evaluate(COLOURS) == dark
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(COLOURS) == light
    browser.prefer("light")
    browser.evaluate("document.getElementById('theme').click()")
    assert browser.evaluate(COLOURS) == dark
    browser.prefer("dark", media="print")
    assert browser.evaluate(COLOURS) == light


def test_a_phone_scrolls_wide_parts_but_not_the_page(browser: Browser) -> None:
    browser.width(360)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.evaluate(
        "[...document.querySelectorAll('figure .scroll')].every(box => box.scrollWidth > box.clientWidth)"
    )
