"""The app as a server of its own and a page of it in Chromium: what screenshots and benchmarks/app.py drive.

In: a runs root. Out: an address, a browser, waits for "everything is drawn". Needs the extras app and dev.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from _common.ports import PATIENCE, free_port, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app" / "server.py"
SWEPT = "try { localStorage.setItem('dmpo-explore-hint', 'seen') } catch {}"  # no sweep of a first visit
# Streamlit says when its script has run; a page that has not changed for a while after that is drawn.
WATCH = """window.lastChange = performance.now();
    new MutationObserver(() => { window.lastChange = performance.now() })
        .observe(document, {subtree: true, childList: true, characterData: true, attributes: true})"""
QUIET = """quiet => document.querySelector('[data-test-script-state=notRunning]')
    && !document.querySelector('[data-testid=stSkeleton]') && performance.now() - window.lastChange > quiet"""


class Server(NamedTuple):
    """A running app; ``started`` is a time of `time.perf_counter`."""

    process: subprocess.Popen[bytes]
    address: str
    started: float


@contextmanager
def serve(runs: Path | None = None, script: Path = APP) -> Iterator[Server]:
    """The app, or another ``script`` of Streamlit's, on a free port of this machine; ends with the block.

    The app shows the runs under ``runs`` and the bundled ones.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"DMPO_EXPLORE_RUNS": str(runs or empty)}
        options = ["--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"]
        command = [sys.executable, "-m", "streamlit", "run", str(script), *options]
        started = time.perf_counter()
        with serving(command, port, "/_stcore/health", environment) as process:
            yield Server(process, f"http://localhost:{port}/", started)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, else Playwright's own."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def new_page(browser: Browser, width: int = 1440, height: int = 900, scheme: str = "light") -> Page:
    """A page in a fresh profile that notes its changes."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(1000 * PATIENCE)
    context.add_init_script(WATCH)
    context.add_init_script(SWEPT)
    return context.new_page()


def settle(page: Page, *selectors: str, quiet: int = 600) -> None:
    """Until ``selectors`` are there, no script runs and nothing has changed for ``quiet`` milliseconds."""
    for selector in selectors:
        page.wait_for_selector(selector, timeout=1000 * PATIENCE)
    page.wait_for_function(QUIET, arg=quiet, timeout=1000 * PATIENCE)
