"""Thresholds of score and count policies: ends, float32, what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, ready_policy

from dmpo_explore.policies.catalogue import POLICIES, policy_from_dict
from dmpo_explore.policies.rules import ConfidencePolicy, OraclePolicy, PatiencePolicy

COUNTED = ("patience", "fixed", "oracle")


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_ends_of_a_threshold(name: str) -> None:
    """For them nothing need be learned."""
    record, policy = make_record(50, 3, 4), POLICIES[name]
    assert (policy((policy.threshold_all,)).exits(record) == 0).all() or name == "oracle"
    assert (policy((policy.threshold_none,)).exits(record) == 2).all()
    assert (OraclePolicy((1,)).exits(record) == 0).all()


@given(st.floats(0, 1), st.integers(-2, 2))
def test_thresholds_are_decided_in_float32_alike(threshold: float, steps: int) -> None:
    """However close score and threshold are, numpy and torch agree, before and after a save."""
    score = np.float32(threshold)
    for _ in range(abs(steps)):
        score = np.nextafter(score, np.float32(np.sign(steps)))
    policy = ConfidencePolicy((threshold,))
    expected = score >= np.float32(threshold)
    again = policy_from_dict(json.loads(json.dumps(policy.to_dict())))
    for p in (policy, again):
        assert p.decide(0, {"confidence": np.array([score])}, ())[0].tolist() == [expected]
        assert p.decide(0, {"confidence": torch.tensor([score])}, ())[0].tolist() == [expected]


def test_thresholds_stay_short() -> None:
    assert ConfidencePolicy((0.9,)).thresholds == (0.9,)
    assert ConfidencePolicy((np.float32(0.9),)).thresholds == (0.9,)
    assert PatiencePolicy((2.0,)).thresholds == (2,)


def test_one_threshold_per_exit_but_the_last() -> None:
    record = make_record(60, 3, 4)
    exits = ConfidencePolicy((1.01, 0.0)).exits(record)
    assert (exits == 1).all()
    assert ConfidencePolicy((0.4, 0.6)).threshold(1) == 0.6
    assert ConfidencePolicy((0.4, 0.6)).threshold(2) == 0.0  # the last exit takes all
    with pytest.raises(ValueError, match="has 3 thresholds; 3 exits need 1 or 2"):
        ConfidencePolicy((0.1, 0.2, 0.3)).exits(record)


@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        ("confidence", 90),
        ("confidence", -0.1),
        ("confidence", float("nan")),
        ("confidence", "high"),
        ("confidence", True),
        ("margin", 1.5),
        ("entropy", -1),
        ("entropy", float("inf")),
        ("patience", -1),
        ("fixed", 0),
        ("oracle", 0),
        ("oracle", 1.5),
        ("random", 1.5),
        ("budgeted", -0.1),
        ("budgeted", "half"),
        ("gate", 2),
        ("patience+confidence", 2),
        ("patience", 1.5),
        ("patience", True),
        ("patience", float("inf")),
        ("patience", float("nan")),
    ],
)
def test_a_bad_threshold_is_named(name: str, threshold: Any) -> None:
    with pytest.raises(ValueError, match=f"threshold={threshold!r}"):
        POLICIES[name]((threshold,))


@given(st.sampled_from(DEPLOYABLE), st.integers(0, 999), st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_threshold_lets_no_image_exit_earlier(name: str, seed: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    if name == "budgeted":  # levels of later exits may fall as a larger share gets there
        return
    if name in COUNTED:
        low, high = round(low * 4) + 1, round(high * 4) + 1
    record = make_record(40, 5, 3, seed)
    lower, higher = (ready_policy(name, t, 5, 3).exits(record) for t in (low, high))
    assert (lower >= higher).all() if name in ("entropy", "random") else (lower <= higher).all()
