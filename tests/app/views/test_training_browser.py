"""Training in Chromium: trained, reloaded, stopped, resumed and explored; accessibility."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe import violations
from made_up import MAIN
from playwright.sync_api import expect
from serving import wait_for
from tiny import tiny_config
from visiting import WATCH, Server, Visit

from dmpo_explore import jobs
from dmpo_explore.runs.store import load_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def trainer(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """A browser on an app whose runs root is its own, since it trains."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, root = tmp_path / "log.txt", tmp_path / "runs"
    options = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1"]
    command = [sys.executable, "-m", "streamlit", "run", "app/server.py", *options, "--server.fileWatcherType=none"]
    environment = os.environ | {"DMPO_EXPLORE_RUNS": str(root), "DMPO_EXPLORE_SLIDER": "live", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=MAIN.parents[1], env=environment, stdout=stream, stderr=stream)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        visit = Visit(context.new_page(), Server(f"http://127.0.0.1:{port}/", log, root))
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        yield visit
        assert not visit.errors and visit.page.get_by_test_id("stException").count() == 0
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DMPO_EXPLORE_RUNS", str(root))
            for job in jobs.list_jobs():
                jobs.stop(job.name, grace=1)
        context.close()
        process.terminate()
        process.wait(timeout=20)
    assert "Traceback" not in log.read_text(errors="replace")


@pytest.mark.slow
def test_a_reader_trains_reloads_stops_resumes_and_explores(
    trainer: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(trainer.server.runs))
    page = trainer.show("training", ".js-plotly-plot")
    page.get_by_role("combobox", name=re.compile("Begin with")).click()
    page.get_by_role("option", name="toy, in seconds").click()
    expect(page.locator(".stMain").get_by_text("--data digits").first).to_be_visible()
    name, epochs = page.get_by_label("Name of the run"), page.get_by_label("Epochs", exact=True)
    name.fill("toy")
    name.press("Enter")
    epochs.fill("80")
    epochs.press("Enter")
    expect(page.get_by_text("--epochs 80").first).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    expect(page.get_by_text(re.compile(r"epoch ([2-9]|\d\d) of 80"))).to_be_visible()

    page.reload()
    page.wait_for_selector("h1")
    expect(page.get_by_text(re.compile(r"epoch \d+ of 80"))).to_be_visible()
    stop.click()
    expect(page.get_by_text(re.compile(r"stopped, \d+ of 80 epochs kept"))).to_be_visible()
    kept = len(load_run("toy").history())
    assert 2 <= kept < 80 and not jobs.job_status(jobs.load_job("toy")).active
    assert jobs.load_job("toy").log().rstrip().endswith("go on with: dmpo-explore train --resume toy")

    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("trained and recorded, 80 of 80 epochs")).to_be_visible(timeout=300_000)
    assert load_run("toy").history()["epoch"].tolist() == list(range(1, 81))
    page.get_by_role("button", name="Open in Explore").click()
    page.wait_for_url(re.compile(r"/(explore)?\?.*run=toy"))
    trainer.settle()
    assert page.locator("[data-number=accuracy]").inner_text().endswith("%")
    said = subprocess.run([sys.executable, "-m", "dmpo_explore.cli", "runs"], capture_output=True, text=True)
    assert re.search(r"^toy +digits.*epoch 80/80, records: test val", said.stdout, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_running_card_and_a_wrong_form_are_accessible(
    trainer: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(trainer.server.runs))
    job = jobs.start(tiny_config(epochs=5000), "toy")
    with (job.folder / "log.txt").open("a") as log:
        log.write("a line that makes it scroll, <b>\n" * 50)
    trainer.page.emulate_media(color_scheme=scheme)
    page = trainer.page
    page.goto(trainer.server.address + "training")
    expect(page.get_by_text(re.compile(r"epoch \d+ of 5000"))).to_be_visible()
    page.get_by_text("Log", exact=True).click()
    expect(page.get_by_text("a line that makes it scroll, <b>").first).to_be_visible()
    page.get_by_label("Name of the run").fill("--force")
    page.get_by_label("Name of the run").press("Enter")
    expect(page.get_by_text("begins with a dash")).to_be_visible()
    found = violations(trainer)
    assert not found, "\n".join(found)
    page.screenshot(path=tmp_path / f"training-{scheme}.png", full_page=True)
