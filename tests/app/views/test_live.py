"""Live: a real model answers, and the numbers on the page are the library's; before a start, recorded timings."""

from __future__ import annotations

import html
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import visiting
from dmpo_explore_app.components import live_panel
from dmpo_explore_app.services import live_export, live_session
from dmpo_explore_app.state import live_choices as live_state
from explore_page import cards, expected, handed, move
from made_up import MAIN
from one_image import bodies
from streamlit.testing.v1 import AppTest
from visiting import checked, texts

import dmpo_explore as dx
from dmpo_explore.inference.live import ALIVE, SHOWN, LiveRun, Look, Measured, Speed
from dmpo_explore.policies.rules import ConfidencePolicy

PAGE = MAIN.parent / "views" / "live.py"
IMAGES = 359  # of digits' test split


@pytest.fixture
def root(model_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`model_root` as the one the library sees; afterwards no live run is left."""
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(model_root))
    yield model_root
    for live in list(live_session._ALL):
        live.stop(wait=20)


def opened(**parameters: str) -> AppTest:
    return visiting.opened(PAGE, **parameters)


def started(**parameters: str) -> AppTest:
    return checked(opened(**parameters).button(key="begin").click().run())


def live_of(app: AppTest) -> LiveRun:
    found = app.session_state[live_state._SESSION]
    assert isinstance(found, live_session.LiveSession)
    return found.live


def until(app: AppTest, wanted: Callable[[Look], bool]) -> AppTest:
    """Draw the page again until its live run is as ``wanted``."""
    end = time.monotonic() + 30
    while not wanted(live_of(app).look()):
        assert time.monotonic() < end, live_of(app).look()
        time.sleep(0.05)
    return checked(app.run())


def ended(look: Look) -> bool:
    return look.state not in ALIVE


def measured(app: AppTest) -> dict[str, str]:
    """What the cards of the live run say: the value, and what follows it."""
    found = re.findall(r'data-live="([\w-]+)">([^<]*)</dd><dd>([^<]*)</dd>', bodies(app))
    return {key: f"{value} | {versus}" for key, value, versus in found}


def labels(app: AppTest) -> set[str]:
    return {button.label for button in app.button}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["infer", "stream"])
def test_all_images_leave_where_the_record_says_and_a_reload_finds_that_again(root: Path, engine: str) -> None:
    app = opened(run="tiny", threshold="0.5", batch="32", count="all", engine=engine)
    record = dx.load_run("tiny").record("test")
    summary = dx.summarise(record, ConfidencePolicy((0.5,)).exits(record))
    assert cards(app) == expected("tiny", "test", ConfidencePolicy((0.5,))) and re.search(
        r"CPU, \d+ thread|GiB", texts(app)
    )
    assert measured(app) == {"expected": f"{1 / summary['flops_fraction']:.2f}× | not measured yet"}
    assert "expected from FLOPs" in handed(app, "race")[0]["alt"] and "Start" in labels(app)

    app = until(checked(app.button(key="begin").click().run()), ended)
    shown, counted = measured(app), live_of(app).look().count.measured
    assert counted is not None
    assert shown["agreed"] == f"{IMAGES} of {IMAGES} | full depth as recorded: {IMAGES}"
    assert shown["accuracy"] == f"{summary['accuracy']:.1%} | full depth {summary['full_accuracy']:.1%}"
    few = counted.calls < live_panel.RANGE_CALLS  # then not as if it were exact
    value = f"about {counted.speed_up:.1f}×" if few else f"{counted.speed_up:.2f}×"
    assert html.unescape(shown["speed-up"]) == f"{value} | {live_panel.expected(counted, 32)}"
    assert f"expected from FLOPs {1 / summary['flops_fraction']:.2f}×" in shown["speed-up"] and counted.speed_up > 0
    assert 'data-state="done"' in bodies(app) and f"{IMAGES} of {IMAGES} images" in bodies(app)
    assert "images · confidence 0.5<" in bodies(app)
    assert bodies(app).count('class="dx-dot"') == bodies(app).count('href="image?run=tiny&amp;split=test&amp;') == SHOWN
    assert "2 calls of either arm" in texts(app)
    assert "Start again" in labels(app) and "Stop" not in labels(app)

    token = app.session_state[live_state._SESSION].token
    assert token in str(app.query_params["live"])
    again = opened(run="tiny", threshold="0.5", live=token)  # a new session
    assert live_of(again) is live_of(app) and measured(again) == shown
    found = json.loads(live_export.as_json(again.session_state[live_state._SESSION]))
    assert found["measured"]["speed_up"] == counted.speed_up and found["settings"]["batch_size"] == 32
    assert [row["images"] for row in found["measured"]["by_exit"]] == list(counted.exits)
    assert found["matching_recorded_exits"] == IMAGES and found["run"] == "tiny"
    assert "live" not in opened(run="tiny", live="0123456789abcdef").query_params  # one that is gone


def test_no_speed_up_is_said_before_it_means_something() -> None:
    arms = Speed(100, 0.5, 0.5, 0.5), Speed(100, 0.6, 0.6, 0.6)
    few = Measured(2, *arms, 1.2, 1.1, 1.3, 2.03, exits=(80, 20), accuracy=0.9, full_accuracy=0.91)
    assert [live_panel.speed_up(few, alive) for alive in (True, False)] == ["measuring", "about 1.2×"]
    said = [live_panel.speed_up(replace(few, calls=calls), True) for calls in (5, 6, 10)]
    assert said == ["measuring", "about 1.2×", "1.20×"]
    rest = "expected from FLOPs 2.03×: the exits' small operations {}cost the rest"
    assert [live_panel.expected(few, n) for n in (1, 64)] == [rest.format(w) for w in ("", "and batches that shrink ")]
    assert live_panel.expected(replace(few, speed_up=2.1), 64) == "expected from FLOPs 2.03×"


@pytest.mark.slow
def test_the_threshold_moves_while_it_runs_and_it_pauses_and_goes_on(root: Path) -> None:
    app = until(started(run="tiny", threshold="0.5", batch="8", count="endless"), lambda look: look.count.images > 20)
    assert {"Pause", "Stop"} <= labels(app) and app.selectbox(key="batch").disabled
    move(app, -1)  # none early
    app = until(app, lambda look: look.count.measured is not None and len(look.count.moves) == 2)
    policy = live_of(app).look().count.policy
    assert policy is not None and policy.thresholds == (ConfidencePolicy.threshold_none,)
    assert "since the threshold moved" in bodies(app)
    app = checked(app.button(key="pause").click().run())
    most = live_of(app).look().count.images + 8  # the batch that was under way
    time.sleep(0.5)
    assert live_of(app).look().count.images <= most and live_of(app).look().state == "paused"
    app = checked(app.button(key="resume").click().run())
    until(app, lambda look: look.count.images > most)
    app = checked(app.button(key="stop").click().run())
    look = live_of(app).look()
    assert look.state == "stopped" and look.count.agreed == look.count.images > 20
    assert look.count.measured is not None and look.count.measured.exits[:2] == (0, 0)
    assert "Start again" in labels(app) and not app.selectbox(key="batch").disabled


@pytest.mark.slow
def test_onnx_bf16_and_int8_answer_too(trained_runs: Path) -> None:
    app = until(started(run="tiny", threshold="0.5", batch="32", count="all", engine="onnx"), ended)
    assert measured(app)["agreed"].startswith(f"{IMAGES} of {IMAGES}")
    for chosen in ({"precision": "bf16"}, {"engine": "onnx", "precision": "int8"}):
        app = until(started(run="tiny", threshold="0.5", batch="32", count="all", **chosen), ended)
        look = live_of(app).look()
        assert look.error is None and look.count.images == IMAGES and chosen["precision"] in bodies(app)


def test_onnx_after_bf16_names_the_precision(root: Path) -> None:
    app = opened(run="tiny", engine="onnx", precision="bf16")
    (notice,) = [warning.value for warning in app.warning if "precision" in warning.value]
    assert "ONNX runs in float32 or int8 here, not in bf16" in notice and "showing no" not in notice
    app = opened(run="tiny", engine="infer", precision="int8")
    assert any("torch runs in float32 or bf16 here, not in int8" in warning.value for warning in app.warning)
    app = opened(run="tiny", precision="fp8")
    assert any("showing float32" in warning.value for warning in app.warning)


@pytest.mark.slow
def test_another_run_ends_it_and_starting_again_begins_anew(root: Path) -> None:
    app = until(started(run="tiny", batch="8", count="endless"), lambda look: look.count.images > 0)
    first = live_of(app)
    other = opened(run="tiny", live=app.session_state[live_state._SESSION].token)  # a second tab, which lets it be
    other = checked(other.selectbox(key="run").set_value("foreign").run())
    assert "left to the page that began it" in texts(other) and first.look().alive
    app = checked(app.selectbox(key="run").set_value("foreign").run())
    assert "the live run was ended" in texts(app) and first.look().state == "stopped"
    assert live_state._SESSION not in app.session_state
    app = checked(app.button(key="begin").click().run())
    second = live_of(app)
    assert second is not first and second.look().alive
    app = checked(app.button(key="stop").click().run())
    assert checked(app.button(key="begin").click().run()) and live_of(app) is not second
    assert second.look().state == "stopped"


def test_a_record_of_other_weights_is_found_out(root: Path) -> None:
    app = until(started(run="foreign", threshold="0.5", batch="32", count="all"), ended)
    look = live_of(app).look()
    assert look.count.agreed < look.count.images == IMAGES
    assert measured(app)["agreed"].startswith(f"{look.count.agreed} of {IMAGES} | ")
    apart = IMAGES - look.count.agreed
    assert f"{apart} of {IMAGES} images took another exit" in texts(app)
    assert "was the record made with these weights" in texts(app)
    (table,) = app.table
    assert len(table.value) == min(apart, SHOWN) and "score to threshold" in table.value


def test_a_run_without_weights_is_a_notice(root: Path) -> None:
    app = opened(run="scores")
    assert "has no weights" in texts(app) and "train it" in texts(app)
    assert app.button(key="begin").disabled
    assert cards(app)["Accuracy"]  # the record's numbers are there all the same


def test_what_goes_wrong_at_the_start_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("the pictures have to be fetched: `dmpo-explore fetch`")

    monkeypatch.setattr(dx.inference, "open_arms", nothing)
    app = started(run="tiny")
    assert "The live run could not start" in texts(app) and "dmpo-explore fetch" in texts(app)
    assert live_state._SESSION not in app.session_state and "Start" in labels(app)


def test_what_goes_wrong_while_it_runs_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = dx.inference.open_arms, []

    def failing(*all: Any, **options: Any) -> Any:
        arms = made(*all, **options)

        def early(images: Any, policy: Any) -> Any:
            calls.append(len(images))
            if len(calls) == 5:
                raise RuntimeError("CUDA out of memory")
            return arms.early(images, policy)

        return replace(arms, early=early)

    monkeypatch.setattr(dx.inference, "open_arms", failing)
    app = until(started(run="tiny", batch="8", count="all"), ended)
    assert "The live run failed" in texts(app) and "CUDA out of memory" in texts(app)
    assert 'data-state="failed"' in bodies(app) and measured(app)["agreed"].startswith("16 of 16 | ")


@pytest.mark.slow
def test_others_on_the_machine_are_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dx.inference, "load_average", lambda: 0.1)
    first = until(started(run="tiny", batch="8", count="endless"), lambda look: look.count.images > 0)
    assert "at work" not in texts(first)
    monkeypatch.setattr(dx.inference, "load_average", lambda: 3.7)
    second = until(started(run="tiny", batch="8", count="all"), ended)
    assert "Another live run was at work in this app" in texts(second) and "load average 3.7" in texts(second)
    checked(first.button(key="stop").click().run())
    third = until(started(run="tiny", batch="8", count="200"), ended)
    assert "at work in this app" not in texts(third)
    assert live_of(third).look().count.images == 200


@pytest.mark.slow
def test_who_leaves_the_page_ends_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks any more."""
    made = dx.inference.LiveRun
    monkeypatch.setattr(dx.inference, "LiveRun", lambda *all, **options: made(*all, **options, idle=0.5))
    app = started(run="tiny", batch="8", count="endless")
    live = live_of(app)
    live._thread.join(20)
    assert live.look().state == "left"
    assert "no page has shown it" in bodies(checked(app.run()))


@pytest.mark.usefixtures("fetched_backbone")
def test_a_run_with_a_single_exit_offers_no_threshold_to_move(runs: Path) -> None:
    texts = {name: " ".join(c.value for c in opened(run=name).caption) for name in ("demo", "demo-single")}
    assert "Move the threshold" in texts["demo"]
    assert (
        "they take turns on the same images" in texts["demo-single"]
        and "Move the threshold" not in texts["demo-single"]
    )


def test_recorded_timings_are_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path))  # no weights are there
    app, run = visiting.opened(PAGE, run="fashion"), dx.load_run("fashion")
    outcome = dx.apply(dx.fit_run_policy(run), run.record("test"))
    timings, share = dx.runs.read_timings(run.path), outcome.summary()["flops_fraction"]
    assert timings is not None
    ratio = timings.full_seconds / timings.early_seconds(share)
    assert f'data-live="recorded">{ratio:.2f}×</dd><dd>expected from FLOPs {1 / share:.2f}×</dd>' in bodies(app)
    assert f"Recorded timings: {timings.images} test images in batches of 64" in texts(app)
    assert timings.machine in texts(app) and "by recorded timings" in handed(app, "race")[0]["alt"]


def test_timings_that_cannot_be_read_leave_the_expected_speed(
    model_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    shutil.copytree(model_root / "tiny", tmp_path / "tiny")
    (tmp_path / "tiny" / "timings.json").write_text("{}")
    app = visiting.opened(PAGE, run="tiny", threshold="0.5")
    assert "The recorded timings cannot be read." in texts(app) and 'data-live="expected"' in bodies(app)
