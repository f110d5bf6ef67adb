"""Joules of a device: blocks that a slow counter can follow, and a live run's energy by arm."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.inference import device as energy
from dmpo_explore.inference import live as live_run
from dmpo_explore.inference.device import call_energy
from dmpo_explore.inference.live import Arms, LiveRun


def test_energy_is_measured_in_blocks_that_a_slow_counter_can_follow() -> None:
    """NVML's counter moves ten times a second: single calls of some milliseconds would mostly use nothing."""
    now = [0.0]

    def call() -> None:  # 5 ms at 300 W
        now[0] += 0.005

    def counter() -> float:
        return 300 * math.floor(now[0] * 10) / 10

    found = call_energy(call, counter, lambda: now[0])
    assert (found.joules, found.seconds) == (pytest.approx(1.5, rel=0.1), pytest.approx(0.005))
    assert found.watts == pytest.approx(300, rel=0.1)
    assert now[0] >= energy.BLOCK >= 1


@pytest.mark.parametrize("counted", [True, False])
def test_a_live_run_measures_the_energy_of_each_arm(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "BLOCK", 0.05)
    monkeypatch.setattr(live_run, "ENERGY_EVERY", 0.0)
    record, used = make_record(60, 3, 4), [0.0]
    policy = dx.fit_policy(record, threshold=0.5)

    def early(rows: np.ndarray, policy: dx.Policy) -> dx.InferenceResult:
        used[0] += 1.0
        outcome = dx.apply(policy, record.subset(rows))
        return dx.InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)

    def full(rows: np.ndarray) -> np.ndarray:
        used[0] += 3.0
        return np.asarray(record.prediction[rows, -1])

    start = time.monotonic()
    idle = 60.0  # watts, beside what the calls use
    joules = (lambda: used[0] + idle * (time.monotonic() - start) * (not used[0])) if counted else None
    live = LiveRun(Arms(lambda rows: rows, early, full, size=20, joules=joules), record, policy, images=60)
    live.start()
    end = time.monotonic() + 60
    while live.look().alive and time.monotonic() < end:
        time.sleep(0.01)
    look = live.look()
    measured = look.count.measured
    assert measured is not None and measured.early.images == 60
    assert (measured.early.joules, measured.full.joules) == ((3.0, 9.0) if counted else (None, None))
    assert look.idle_watts == (pytest.approx(idle, rel=0.2) if counted else None)
