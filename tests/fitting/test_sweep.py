"""Sweeps of policies with known settings, and of those that learn; test_fit compares sweeps with brute force."""

from __future__ import annotations

import pytest
from synthetic import make_record

from dmpo_explore.fitting.fit import sweep
from dmpo_explore.policies.catalogue import learned_policy
from dmpo_explore.policies.learned import SHARES


def test_a_sweep_of_budgeted_has_its_shares() -> None:
    record = make_record(500, 4, 5)
    swept = sweep(record, "budgeted")
    assert swept.thresholds.tolist() == SHARES.tolist()
    going_on = 1 - swept.exit_counts[:, 0] / 500
    assert going_on == pytest.approx(SHARES, abs=0.0021)


def test_learning_takes_the_policys_temperatures() -> None:
    record = make_record(300, 3, 4)
    hot, cold = (learned_policy(record, "gate", temperatures=(t,) * 3) for t in (3.0, 0.3))
    assert hot.learned != cold.learned and hot.temperatures == (3.0,) * 3
    assert learned_policy(record, "confidence").learned == ()
