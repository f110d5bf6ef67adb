"""The session: events that undo nothing, what was sent, the page's address, measurements of trainings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dmpo_explore_app.state import decide_choices, jobs, notes, sent, targets, url
from dmpo_explore_app.state.events import before_drawing, handle, keep_choices, last
from dmpo_explore_app.state.sent import lacking  # tests of pages put another in its place

import dmpo_explore as dx


def choose(state: dict[str, Any], threshold: str) -> Any:
    return lambda: state.update({targets.THRESHOLD: threshold})


def test_an_event_on_an_old_drawing_does_not_undo_the_one_before(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1, "answered": 0}, choose(state, "0.5"))
    state[targets.THRESHOLD] = "0.9"  # what the browser held before it drew the answer
    handle({"event": 2, "answered": 0}, lambda: None)
    assert state[targets.THRESHOLD] == "0.5" and last() == 2


def test_what_was_chosen_since_the_answer_is_kept(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1}, choose(state, "0.5"))
    before_drawing()
    state[targets.THRESHOLD] = "0.9"  # by a widget, after the answer
    handle({"event": 2, "answered": 1}, lambda: None)
    assert state[targets.THRESHOLD] == "0.9"


def test_old_values_that_come_with_an_event_are_not_drawn(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1, "answered": 0}, choose(state, "0.5"))
    state[targets.THRESHOLD] = "0.9"
    before_drawing()
    assert state[targets.THRESHOLD] == "0.5"


def test_a_page_that_tells_no_answers_keeps_what_was_chosen_since(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1, "answered": 0}, choose(state, "0.5"))
    keep_choices(False)  # another page
    handle({"event": 2, "answered": 0}, lambda: None)
    state[targets.THRESHOLD] = "0.7"  # by a widget of that page
    handle({"event": 3, "answered": 0}, lambda: None)
    assert state[targets.THRESHOLD] == "0.7"
    keep_choices(True)  # back: nothing waits to be put back
    before_drawing()
    assert state[targets.THRESHOLD] == "0.7" and last() == 3


def test_an_image_is_sent_once(state: dict[str, Any]) -> None:
    assert lacking("ab") == ["a", "b"]
    sent.keep("ab")
    sent.keep("c")
    assert lacking("abcd") == ["d"]


def test_many_images_are_forgotten_before_the_browser_does(state: dict[str, Any]) -> None:
    for drawing in range(3):
        sent.keep([f"{drawing} {n}" for n in range(sent.MOST)])
    assert lacking(["0 1", "1 1", "2 1"]) == ["0 1", "1 1"]


def test_what_the_browser_misses_is_sent_again(state: dict[str, Any]) -> None:
    sent.keep("abc")
    sent.missed(["b", 3], ())
    sent.missed("c", ())  # no list
    assert lacking("abc") == ["b"]


def chosen(state: dict[str, Any], **values: str) -> None:
    """A first drawing, and one after these values were chosen."""
    url.follow(values)
    url.write(**dict.fromkeys(values, "usual"))
    state.update(values)
    url.write(**values)


def test_the_longest_choice_of_runs_is_an_address(state: dict[str, Any]) -> None:
    runs = ",".join([100 * "x"] * decide_choices.MOST)
    chosen(state, runs=runs)
    assert url.st.query_params["runs"] == runs and not url.follow(["runs"]) and state["runs"] == runs


def test_what_an_address_cannot_hold_is_left_out_and_stays_chosen(state: dict[str, Any]) -> None:
    values = {"runs": "x" * (url.LONGEST + 1), "split": "test"}
    chosen(state, **values)
    assert dict(url.st.query_params) == {"split": "test"}
    assert not url.follow(values) and state["runs"] == values["runs"]


RATES = dx.jobs.Rates((1.0, 2.0), 20, 0.0, 0.01, 10.0, 1 << 30, 0, "CPU", 1295, 143, 359)
CONFIG = dx.Config(dx.DataConfig("digits", train_size=200), training=dx.TrainingConfig(epochs=3, batch_size=20))


def test_a_measurement_counts_for_configs_with_the_same_steps(state: dict[str, Any]) -> None:
    assert jobs.rates_of(CONFIG) is None
    jobs.keep_rates(CONFIG, RATES)
    assert jobs.rates_of(replace(CONFIG, training=replace(CONFIG.training, epochs=30))) == RATES
    assert jobs.rates_of(replace(CONFIG, training=replace(CONFIG.training, batch_size=40))) is None


def test_a_started_job_is_announced_once(state: dict[str, Any]) -> None:
    jobs.keep_rates(CONFIG, RATES)
    jobs.follow_started("mine", CONFIG)
    assert (notes.take(notes.STARTED), notes.take(notes.STARTED)) == ("mine", None)
    assert jobs.rates_before("mine") == RATES and jobs.rates_before("other") is None


def test_the_run_of_a_job_that_ended_is_shown_once(state: dict[str, Any]) -> None:
    state[jobs.RUN] = "demo"
    jobs.show_ended({"old": False, "mine": True}, ["demo", "old"])  # one that this session did not see
    assert jobs.shown_run() == "demo"
    jobs.show_ended({"mine": False}, ["demo"])  # it ended without a run
    assert jobs.shown_run() == "demo"
    jobs.show_ended({"mine": False}, ["demo", "mine"])
    assert jobs.shown_run() == "mine"
    state[jobs.RUN] = "demo"
    jobs.show_ended({"mine": False}, ["demo", "mine"])
    assert jobs.shown_run() == "demo"
    jobs.follow_started("fast", CONFIG)  # it ended before the page saw it run
    jobs.show_ended({"fast": False}, ["demo", "fast"])
    assert jobs.shown_run() == "fast"


def test_after_a_reload_the_newest_training_is_shown(state: dict[str, Any]) -> None:
    jobs.show_ended({"first": False, "second": False, "third": True}, ["demo", "first", "second", "third"])
    assert jobs.shown_run() == "second"


def test_the_page_is_outdated_by_a_change_or_an_error(state: dict[str, Any]) -> None:
    snapshot: jobs.Snapshot = (("mine", "running", 1, ()),)
    jobs.keep_snapshot(snapshot)
    assert not jobs.outdated(snapshot) and jobs.outdated((("mine", "running", 2, ()),))
    notes.write(notes.JOB, "there is no job")
    assert jobs.outdated(snapshot)
    assert (notes.take(notes.JOB), jobs.outdated(snapshot)) == ("there is no job", False)
