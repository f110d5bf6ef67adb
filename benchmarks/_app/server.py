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
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from _common.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app" / "server.py"
PATIENCE = 120.0  # seconds for anything: a busy machine is slow, not broken
SWEPT = "try { localStorage.setItem('dmpo-explore-hint', 'seen') } catch {}"  # no sweep of a first visit
# Streamlit says when its script has run; a page that has not changed for a while after that is drawn.
WATCH = """window.lastChange = performance.now();
    new MutationObserver(() => { window.lastChange = performance.now() })
        .observe(document, {subtree: true, childList: true, characterData: true, attributes: true})"""
QUIET = """quiet => document.querySelector('[data-test-script-state=notRunning]')
    && !document.querySelector('[data-testid=stSkeleton]') && performance.now() - window.lastChange > quiet"""


class Server:
    """A running app."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, started: float) -> None:
        self.process, self.address, self.started = process, address, started  # started: time.perf_counter()

    def memory(self) -> int:
        """Resident bytes now (Linux; elsewhere 0)."""
        try:
            text = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serve(runs: Path | None = None, wait: bool = True, script: Path = APP) -> Iterator[Server]:
    """The app, or another ``script`` of Streamlit's, on a free port of this machine; ends with the block.

    The app shows the runs under ``runs`` and the bundled ones.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"DMPO_EXPLORE_RUNS": str(runs or empty)}
        options = ["--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"]
        command = [sys.executable, "-m", "streamlit", "run", str(script), *options]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server = Server(process, f"http://localhost:{port}/", started)
        try:
            if wait:
                wait_for(server)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_for(server: Server) -> None:
    """Until it answers; RuntimeError if it does not start."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.process.poll() is None:
        try:
            with urllib.request.urlopen(server.address + "_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"the app did not start within {PATIENCE:g} s")


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
