"""A page of the app in a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamlit.testing.v1 import AppTest

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUIET = """() => document.querySelector('[data-test-script-state=notRunning]') && window.lastReceived >= window.lastSent
    && !document.querySelector('[data-testid=stSkeleton]') && performance.now() - window.lastChange > 600"""
# What QUIET reads: when the page last changed, last asked the server and last heard from it. A page that has asked is
# not quiet before the answer is there, however late a busy machine sends it.
WATCH = """window.lastChange = performance.now();
    window.lastSent = window.lastReceived = 0;
    new MutationObserver(() => { window.lastChange = performance.now() })
        .observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all);
            this.addEventListener("message", () => { window.lastReceived = window.lastChange = performance.now() });
        }
        send(data) { window.lastSent = performance.now(); super.send(data) }
    }"""


@dataclass
class Server:
    """A running app: where, and what it said."""

    address: str
    log: Path
    runs: Path = Path()  # its runs root


@dataclass
class Visit:
    """A page of the app in a browser, and what went wrong on it."""

    page: Page
    server: Server
    errors: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> Page:
        """Open the start page and wait until it is drawn."""
        self.page.goto(self.server.address + query)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the app is idle, all of the page is there and nothing has changed on it for a while."""
        for selector in ("[data-number=accuracy]", ".dx-heat", ".dx-shown, .stDataFrame"):
            self.page.wait_for_selector(selector, timeout=120_000)
        self.page.wait_for_function(QUIET, timeout=120_000)

    def show(self, path: str, *selectors: str) -> Page:
        """Open any page, e.g. ``compare?runs=a,b``, and wait until ``selectors`` are there and it is drawn."""
        self.page.goto(self.server.address + path)
        self.settle_on("h1", *selectors)
        return self.page

    def settle_on(self, *selectors: str) -> None:
        """As `settle`, for a page that has ``selectors``."""
        for selector in selectors:
            self.page.wait_for_selector(selector, timeout=120_000)
        self.page.wait_for_function(QUIET, timeout=120_000)

    def numbers(self) -> list[str]:
        """The texts of the four cards."""
        return self.page.locator("[data-number]").all_inner_texts()

    def images(self) -> list[str]:
        """What the pictures are, from first to last."""
        return list(self.page.eval_on_selector_all(".dx-gallery li", "all => all.map(item => item.title)"))


def opened(page: Path, timeout: float = 120, **parameters: str) -> AppTest:
    """A page of the app without a browser, at an address with these parameters, drawn without an exception."""
    app = AppTest.from_file(str(page), default_timeout=timeout)
    for name, value in parameters.items():
        app.query_params[name] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    """``app``, which raised nothing."""
    assert not app.exception
    return app
