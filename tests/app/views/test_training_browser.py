"""Training in Chromium: trained, reloaded, stopped, resumed and explored; accessibility."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from background import wait
from playwright.sync_api import expect
from serving import serving
from tiny import tiny_config
from visiting import BACKGROUND, Server, Visit, new_visit, violations, wait_for_address

from dmpo_explore import jobs
from dmpo_explore.runs.store import load_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def training_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An app with a runs root of its own, since it trains; at usual priority, as other tests keep all cores busy."""
    place = tmp_path_factory.mktemp("trainer")
    (place / "nice").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    (place / "nice").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PATH", str(place), prepend=os.pathsep)
        with serving(place / "runs", place / "log.txt") as server:
            yield server


@pytest.fixture
def trainer(browser: Browser, training_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A browser on that app, whose runs root is empty; the library sees it too."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(training_server.runs))
    try:
        with new_visit(browser, training_server) as visit:
            yield visit
    finally:
        for job in jobs.list_jobs():
            jobs.stop(job.name, grace=1)
        shutil.rmtree(training_server.runs)


def type_in(page: Page, label: str, text: str, then: str) -> None:
    """Type into a field of the form and wait until the page says ``then``."""
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Enter")
    expect(page.locator(".stMain").get_by_text(then).first).to_be_visible()


# On a busy machine a training is late, not wrong.
LATE = pytest.mark.timeout(1800)
MINUTES = 900_000  # milliseconds


@LATE
@pytest.mark.slow
def test_a_reader_trains_reloads_stops_resumes_and_explores(trainer: Visit) -> None:
    page = trainer.show("training", ".js-plotly-plot")
    assert page.get_by_role("radio", name="toy, in seconds").is_checked()
    expect(page.locator(".stMain").get_by_text("--data digits").first).to_be_visible()
    trainer.settle_on(".js-plotly-plot")
    type_in(page, "Name of the run", "toy", then="--name toy")
    type_in(page, "Epochs", "12", then="--epochs 12")
    trainer.settle_on(".js-plotly-plot")
    page.get_by_role("button", name="Start training").click()
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    page.reload()
    expect(page.get_by_text(re.compile(r"epoch ([2-9]|\d\d) of 12"))).to_be_visible(timeout=MINUTES)
    expect(page.locator(".st-key-live_toy_panels .js-plotly-plot")).to_have_count(3)
    stop.click()
    expect(page.get_by_text(re.compile(r"stopped, \d+ of 12 epochs kept"))).to_be_visible()
    kept = len(load_run("toy").history())
    assert 1 <= kept < 12 and not jobs.job_status(jobs.load_job("toy")).active
    assert jobs.load_job("toy").log().rstrip().endswith("continue with: dmpo-explore train --resume toy")

    trainer.settle_on(".js-plotly-plot")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("trained and recorded, 12 of 12 epochs")).to_be_visible(timeout=MINUTES)
    expect(page.get_by_role("combobox", name="Run")).to_have_value("toy")  # its curves, not demo's
    assert load_run("toy").history()["epoch"].tolist() == list(range(1, 13))
    trainer.settle_on(".js-plotly-plot")
    page.get_by_role("button", name="Open in Explore").click()
    wait_for_address(page, re.compile(r"/(explore)?\?.*run=toy"))
    trainer.settle()
    assert page.locator("[data-number=accuracy]").inner_text().endswith("%")
    assert jobs.job_status(jobs.load_job("toy")).recorded == ("val", "test")


@LATE
@pytest.mark.slow
def test_a_running_card_and_a_wrong_form_are_accessible(trainer: Visit, tmp_path: Path) -> None:
    job = jobs.start(tiny_config(400, epochs=50), "toy")
    wait(lambda: bool((status := jobs.job_status(job)).epoch and status.progress), MINUTES / 1000)
    os.kill(job.pid, signal.SIGSTOP)  # it still runs, but takes no core, and no end of an epoch draws the page anew
    with (job.folder / "log.txt").open("a") as log:
        log.write("a line that makes it scroll, <b>\n" * 50)
    page = trainer.page
    page.goto(trainer.server.address + "training")
    expect(page.get_by_text(re.compile(r"epoch \d+ of 50"))).to_be_visible(timeout=MINUTES)
    page.get_by_text("Log", exact=True).click()
    expect(page.get_by_text("a line that makes it scroll, <b>").first).to_be_visible()
    type_in(page, "Name of the run", "--force", then="begins with a dash")
    for scheme, colour in BACKGROUND.items():
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        expect(page.locator(".stApp")).to_have_css("background-color", colour)
        found = violations(trainer)
        assert not found, "\n".join(found)
        page.screenshot(path=tmp_path / f"training-{scheme}.png", full_page=True)


MEETING = """selector => {  // titles of axes that lie over the panel beside them
    const all = part => [...document.querySelectorAll(`${selector} .js-plotly-plot ${part}`)];
    const panels = all('.nsewdrag').map(panel => panel.getBoundingClientRect());
    const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    const titles = all(':is(.g-ytitle, .g-y2title, .g-y3title) text');
    return [panels.length, titles.length, titles.map(title => [title.textContent, title.getBoundingClientRect()])
        .filter(([, box]) => panels.some(panel => meets(panel, box))).map(([text]) => text)];
}"""


@pytest.mark.parametrize(("width", "rows"), [(400, 3), (1440, 1)])
def test_the_curves_are_drawn_once_and_stand_one_below_the_other_on_a_phone(
    visit: Visit, width: int, rows: int
) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    chart = ".st-key-learning_panels .js-plotly-plot"
    page = visit.show("training?run=demo", chart)
    visit.settle_on(chart)
    assert page.evaluate(MEETING, ".st-key-learning_panels") == [3, 3, []]
    boxes = [box for panel in page.locator(f"{chart} .nsewdrag").all() if (box := panel.bounding_box())]
    assert len(boxes) == 3 and all(box["x"] + box["width"] <= width for box in boxes)
    assert len({round(box["y"]) for box in boxes}) == rows
    assert page.locator(".js-plotly-plot").count() == 4  # three panels and the plan, none of them hidden
    assert page.locator(".dx-legend li").all_inner_texts()[0].endswith("exit 1")
    assert page.evaluate("() => document.querySelector('.stMain').scrollWidth") <= width
