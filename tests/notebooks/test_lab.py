"""The notebooks in JupyterLab, in Chromium: the figure follows while the slider is dragged.

Of each notebook only the cells tagged ``setup`` and ``live`` run, so that nine of them take a minute, not ten.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from build import find, read_script

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCRIPTS = find([])
LAB = ["-m", "jupyter", "lab", "--no-browser", "--allow-root", "--IdentityProvider.token=", "--LabApp.news_url=None"]
LAB += ["--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
PLOT = ".jp-OutputArea .js-plotly-plot"
ERROR = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
DRAWN = """() => JSON.stringify([...document.querySelectorAll('.jp-OutputArea .js-plotly-plot')].map(
    plot => [plot.data, plot.layout.title, plot.layout.shapes, plot.layout.annotations]))"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab on trimmed notebooks in a folder of their own."""
    folder = tmp_path_factory.mktemp("lab")
    for script in SCRIPTS:
        notebook = read_script(script)
        notebook.cells = [c for c in notebook.cells if {"setup", "live"} & set(c.metadata.get("tags", []))]
        nbformat.write(notebook, folder / f"{script.stem}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {
        name: str(folder / "home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    command = [sys.executable, *LAB, f"--port={port}", f"--notebook-dir={folder}"]
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | home)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status", folder / "lab.log")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def wait_for(address: str, log: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(errors='replace')}")


def drag(page: Page) -> tuple[str, str]:
    """Drag the first slider of the live cell and hold it: what was drawn before, and what is drawn while it is held."""
    handle = page.locator(".jp-OutputArea .noUi-handle").first
    handle.scroll_into_view_if_needed()
    before, box = page.evaluate(DRAWN), handle.bounding_box()
    track = page.locator(".jp-OutputArea .noUi-target").first.bounding_box()
    assert box and track
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    step = track["width"] / 4 if x < track["x"] + track["width"] / 2 else -track["width"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    for part in (0.3, 0.6, 1.0):
        page.mouse.move(x + part * step, y)
    page.wait_for_function(f"before => ({DRAWN})() !== before", arg=before, timeout=60_000)
    while_held = page.evaluate(DRAWN)
    page.mouse.up()
    return before, while_held


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_the_figure_follows_the_slider(
    script: Path, lab: str, browser: Browser, fetched_backbone: Path, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    context.set_default_timeout(60_000)
    page = context.new_page()
    try:
        page.goto(f"{lab}/lab/tree/{script.stem}.ipynb?reset")
        page.wait_for_function(READY)
        page.evaluate(RUN)
        page.wait_for_selector(f"{PLOT} .main-svg, {ERROR}", timeout=120_000, state="attached")
        assert page.locator(ERROR).all_inner_texts() == []
        page.wait_for_function(f"() => ({DRAWN})().length > 50")
        before, while_held = drag(page)
        assert before != while_held
        page.screenshot(path=tmp_path / f"{script.stem}.png")
        assert page.locator(ERROR).all_inner_texts() == []
    finally:
        page.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
        context.close()
