"""What pages with and without the model share, `web.tiles`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.web.tiles import exits_of, facts_of, rule_of, slider_of


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("entropy", {"threshold": 0.3}),
        ("gate", {"flops": 0.4}),
        ("random", {"threshold": 0.4}),
        ("patience", {"threshold": 2}),
    ],
)
def test_images_exit_at_every_position_as_the_policy_decides(name: str, how: dict[str, Any]) -> None:
    run = dx.load_run("demo")
    record, rows = run.record("test").subset(slice(0, 500)), np.array([3, 77, 401])
    policy = dx.fit_policy(run.record("calibration"), name, **how)
    slider = slider_of(policy, outcome := dx.apply(policy, record))
    found = exits_of(rows, policy, outcome, slider)
    expected = [replace(policy, thresholds=(t,)).exits(record)[rows].tolist() for t in slider.thresholds]
    assert found.tolist() == expected


def test_rule_and_facts_are_in_words() -> None:
    run = dx.load_run("demo")
    policy = dx.POLICIES["confidence"]((0.81,))
    assert rule_of(policy, fixed=True).startswith("Exit at the first exit whose confidence is at least 0.81")
    assert "at least the threshold" in rule_of(policy, fixed=False)
    assert facts_of(run, run.record("test"))[1] == "6 exits, after blocks 3, 4, 5, 6, 8, 12"
