"""Session state of Training: measurements by what was measured, one announcement for each job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dmpo_explore_app.state import jobs, notes

import dmpo_explore as dx

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
