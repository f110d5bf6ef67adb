"""The race's data: before a measurement the record's exits and FLOPs, afterwards what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from dmpo_explore_app.services import race_data, run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from synthetic import make_record

import dmpo_explore as dx


def test_before_a_measurement_it_is_the_record_and_says_so() -> None:
    run = dx.load_run("demo")
    point = OperatingPoint(run, "test", run_facts.usual_policy(run, "test"))
    found, summary = race_data.before(point, None, None), point.outcome.summary()
    assert found["origin"] == "expected" and "expected from FLOPs" in found["alt"]
    assert found["speed_up"] == pytest.approx(1 / summary["flops_fraction"])
    assert found["counts"] == np.bincount(point.outcome.exits, minlength=6).tolist()
    assert found["gates"][-1] == 1 and len(found["runners"]) == race_data.SHOWN


def test_recorded_timings_give_the_speeds_and_are_named() -> None:
    run = dx.load_run("demo")
    point = OperatingPoint(run, "test", run_facts.usual_policy(run, "test"))
    share = point.outcome.summary()["flops_fraction"]
    timings = dx.runs.Timings("a processor", 2, None, 64, 100, "no", 50.0, (share / 2, 2 * share), (400.0, 100.0))
    found = race_data.before(point, timings, None)
    seconds = 1 / 400 + (1 / 100 - 1 / 400) / 3  # a third of the way from share / 2 to 2 share
    assert found["origin"] == "recorded" and "by recorded timings" in found["alt"] and not found["running"]
    assert found["speed_up"] == pytest.approx(1 / 50 / seconds)
    assert found["lanes"] == ["Early exits · 5 ms an image · 200 images/s", "Full depth · 20 ms an image · 50 images/s"]


def test_afterwards_it_is_what_was_measured() -> None:
    record = make_record(20)
    last = (dx.inference.Answer(3, 1, int(record.labels[3]), 0.9), dx.inference.Answer(4, 2, -1, 0.4))
    early, full = dx.inference.Speed(10, 0.5, 0.5, 0.5), dx.inference.Speed(10, 1.5, 1.5, 1.5)
    m = dx.inference.Measured(1, early, full, 3.0, 3.0, 3.0, 3.5, (5, 3, 2, 0), 0.9, 0.9)
    count = dx.inference.Count(None, 10, 10, 10, m, (), last, (), ())
    found = race_data.measured(record, dx.inference.Look("running", count, 20, None), m, lambda row: f"image {row}")
    assert (
        found["origin"] == "measured" and found["running"] and found["speed_up"] == 3.0 and "3.00 times" in found["alt"]
    )
    assert [(one["src"], one["exit"], one["correct"]) for one in found["runners"]] == [
        ("image 3", 1, True),
        ("image 4", 2, False),
    ]
    assert found["lanes"] == ["Early exits · 50 ms an image · 20 images/s", "Full depth · 150 ms an image · 7 images/s"]
