"""The lessons in JupyterLab, in Chromium: every slider, list and button is moved, and every guess is locked.

One JupyterLab, one page and one kernel serve all of them: what is imported once stays imported. Between two lessons the
kernel's names are deleted. Nothing waits for a time. Trainings last two epochs, as in `scripts/notebooks --check
--brief`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from serving import wait_for

from _common.ports import free_port
from build import BRIEFLY, find
from editions import read, read_script

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

SCRIPTS = find([])
MOST_BYTES = 3_000_000  # of a notebook that is saved after a run, with what its widgets hold
LAB = ["-m", "jupyter", "lab", "--no-browser", "--allow-root", "--IdentityProvider.token=", "--LabApp.news_url=None"]
LAB += ["--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
ERROR = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
LIVE = ".jp-OutputArea-output:has(.widget-slider, .widget-toggle-buttons, .widget-dropdown)"
LIVE += ":not(:has(button:has-text('Lock my guess')))"  # figures that follow controls
# The kernel of the first notebook serves all; a session binds it to the next file before that is opened.
OPEN = """async ([path, before]) => {
    const {serviceManager, commands, shell} = window.jupyterapp;
    await serviceManager.ready;
    const [running] = serviceManager.kernels.running();
    if (running) {  // this connection goes again: only one of a page to a kernel may receive the widgets' messages
        const bound = {path, name: path, type: 'notebook', kernel: {id: running.id}};
        (await serviceManager.sessions.startNew(bound)).dispose();
    }
    const panel = await commands.execute('docmanager:open', {path, factory: 'Notebook'});
    await panel.context.ready;
    await panel.sessionContext.ready;
    shell.activateById(panel.id);
    window.kernel = panel.sessionContext.session.kernel;
    window.panel = panel;
    await window.kernel.info;
    const reply = await window.kernel.requestExecute({code: before}).done;
    if (reply.content.status !== 'ok') throw new Error(reply.content.evalue);
    await commands.execute('notebook:run-all-cells');
}"""
CLOSE = """async code => {
    if (!window.panel) return;
    await window.kernel.requestExecute({code}).done;
    window.panel.context.model.dirty = false;
    window.panel.sessionContext.session.dispose();
    window.panel.dispose();
    window.panel = null;
}"""
RESET = """
import os, ipywidgets, sys
ipywidgets.Widget.close_all()
os.chdir(os.path.expanduser("~"))
os.environ.pop("DMPO_EXPLORE_RUNS", None)
get_ipython().run_line_magic("reset", "-f")
"""
READY = """() => ['docmanager:open', 'notebook:run-all-cells'].every(
    name => window.jupyterapp?.commands.hasCommand(name))"""
DRAWN = """output => JSON.stringify([...output.querySelectorAll('.js-plotly-plot')].map(
    plot => [plot.data, plot.layout.title, plot.layout.shapes, plot.layout.annotations, plot.layout.images]))"""
# Messages to the kernel are answered in order, so what was sent before the first is done. A slider keeps its newest
# value while the kernel is at an older one and sends it then, so that is done before the second. Then the browser
# draws.
ANSWERED = """async () => {
    for (let i = 0; i < 2; i++) await window.kernel.requestExecute({code: '', silent: true}).done;
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab on the lessons' code, and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    for script in SCRIPTS:
        notebook = read(read_script(script))
        notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        nbformat.write(notebook, folder / f"{script.stem}.ipynb")
    settings = {  # cells outside the window are in the page, too; no news lies over a slider
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    for name, values in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    port = free_port()
    home = {
        name: str(folder / "home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    home["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
    command = [sys.executable, *LAB, f"--port={port}", f"--notebook-dir={folder}"]
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | home)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api/status", process, folder / "lab.log")
        yield address, folder
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:  # a kernel that does not answer; without its server it ends by itself
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def page(lab: tuple[str, Path], browser: Browser) -> Iterator[Page]:
    """JupyterLab in a browser, loaded once."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(f"{lab[0]}/lab?reset")
    page.wait_for_function(READY)
    page.evaluate("() => window.jupyterapp.restored")
    yield page
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    context.close()


class Figure:
    """A live figure with its controls."""

    def __init__(self, page: Page, output: Locator) -> None:
        self.page, self.output = page, output
        output.locator(".js-plotly-plot .main-svg").first.wait_for(state="attached")

    def drawn(self) -> str:
        """What is drawn once all that was sent to the kernel is answered."""
        now, before = self.now(), ""
        while now != before:
            self.page.evaluate(ANSWERED)
            now, before = self.now(), now
        return now

    def now(self) -> str:
        text: str = self.output.evaluate(DRAWN)
        return text

    def follows(self, before: str, most: int = 120_000) -> None:
        """Wait until something else than ``before`` is drawn, at most so many milliseconds."""
        arg = [self.output.element_handle(), before]
        self.page.wait_for_function(f"([output, before]) => ({DRAWN})(output) !== before", arg=arg, timeout=most)

    def drag(self, slider: Locator) -> None:
        """Drag a slider by a quarter towards its longer side: the figure follows while it is held.

        A busy machine may move the page under the pointer: then once more, as a reader would.
        """
        from playwright.sync_api import TimeoutError as Missed

        handle, target = slider.locator(".noUi-handle"), slider.locator(".noUi-target")
        for wait in (30_000, 30_000, 120_000):
            before = self.drawn()
            handle.hover()  # waits until it lies still and nothing lies over it
            box, track = handle.bounding_box(), target.bounding_box()
            assert box and track
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            step = track["width"] / 4 if x < track["x"] + track["width"] / 2 else -track["width"] / 4
            self.page.mouse.move(x, y)
            self.page.mouse.down()
            for part in (0.3, 0.6, 1.0):
                self.page.mouse.move(x + part * step, y)
            try:
                self.follows(before, wait)
                return
            except Missed:
                if wait > 30_000:
                    raise
            finally:
                self.page.mouse.up()

    def choose(self, choice: Locator) -> int:
        """Press every button of a row, the pressed one last, or take every option of a list; how many there are."""
        buttons, options = choice.locator("button").all(), choice.locator("option").all_inner_texts()
        pressed = ["mod-active" in (button.get_attribute("class") or "") for button in buttons]
        for button in [button for _, button in sorted(zip(pressed, buttons, strict=True), key=lambda pair: pair[0])]:
            before = self.drawn()
            button.click()
            self.follows(before)
        for option in [text for text in options if text != choice.locator("option:checked").inner_text()]:
            before = self.drawn()
            choice.locator("select").select_option(label=option)
            self.follows(before)
        return max(len(buttons), len(options))


def count_of(script: Path, *kinds: str) -> int:
    """How often a lesson's code calls one of ``kinds``."""
    code = "\n".join(cell.source for cell in read_script(script).cells if cell.cell_type == "code")
    return sum(len(re.findall(rf"\b{kind}\(", code)) for kind in kinds)


def lock_guesses(page: Page) -> int:
    """Press every guess's button; how many there were, all of which are locked now."""
    buttons = page.locator("button:has-text('Lock my guess')").element_handles()
    for button in buttons:
        button.click()
    page.locator("button:disabled:has-text('Locked')").nth(len(buttons) - 1).wait_for()
    return len(buttons)


@pytest.mark.timeout(1800)
@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_every_control_moves_its_figure(
    script: Path, lab: tuple[str, Path], page: Page, fetched_backbone: Path, tmp_path: Path
) -> None:
    try:
        page.evaluate(OPEN, [f"{script.stem}.ipynb", BRIEFLY])
        assert page.locator(ERROR).all_inner_texts() == []
        moved = 0
        figures = page.locator(LIVE)
        assert figures.count() == count_of(script, "Live")
        for place, output in enumerate(figures.all()):
            figure = Figure(page, output)
            for slider in output.locator(".widget-slider").all():
                figure.drag(slider)
                moved += 1
            for choice in output.locator(".widget-toggle-buttons, .widget-dropdown").all():
                assert figure.choose(choice) > 1
                moved += 1
            figure.drawn()
            output.screenshot(path=tmp_path / f"{script.stem}-{place}.png")
        assert moved == count_of(script, "IntSlider", "FloatSlider", "ToggleButtons")
        assert lock_guesses(page) == count_of(script, "Guess") > 0
        assert page.locator(ERROR).all_inner_texts() == []
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        assert 10_000 < (lab[1] / f"{script.stem}.ipynb").stat().st_size < MOST_BYTES
    finally:
        page.evaluate(CLOSE, RESET)
