"""Policies on scores against naive loops from their definitions, patience against PABEE, controls, and thresholds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, naive_draw, ready_policy, record_from_logits

from dmpo_explore.policies.catalogue import POLICIES, policy_from_dict
from dmpo_explore.policies.rules import (
    ConfidencePolicy,
    EntropyPolicy,
    FixedPolicy,
    MarginPolicy,
    OraclePolicy,
    PatiencePolicy,
    RandomPolicy,
)


def pabee_exit(says: list[int], patience: int) -> int:
    """Zhou et al. 2020, algorithm for classification, word for word: a counter that grows or is set back to zero."""
    counter, previous = 0, None
    for layer, prediction in enumerate(says):
        counter = counter + 1 if prediction == previous else 0
        if counter == patience:
            return layer
        previous = prediction
    return len(says) - 1


@given(st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), min_size=1, max_size=20), st.integers(0, 6))
def test_patience_is_pabee(says: list[list[int]], patience: int) -> None:
    record = record_from_logits(np.eye(3)[np.array(says)], [0] * len(says))
    expected = [pabee_exit(row, patience) for row in says]
    assert PatiencePolicy((patience,)).exits(record).tolist() == expected


def test_a_score_on_the_threshold_exits() -> None:
    record = record_from_logits(np.log([[[0.75, 0.25]] * 2]), [0])
    for policy, score in (
        (ConfidencePolicy, record.confidence),
        (MarginPolicy, record.margin),
        (EntropyPolicy, record.entropy),
    ):
        at = float(score[0, 0])
        beyond = np.nextafter(score[0, 0], np.float32(0 if policy is EntropyPolicy else 1))
        assert policy((at,)).exits(record).tolist() == [0]
        assert policy((float(beyond),)).exits(record).tolist() == [1]


def test_the_oracle_is_the_best_that_can_be() -> None:
    """Against every choice of exits for a few images: none of the same or less cost is correct more often."""
    record = make_record(5, 3, 4, seed=3)
    rows, choices = np.arange(5), np.array(np.meshgrid(*[range(3)] * 5)).reshape(5, -1).T
    correct = record.correct[rows, choices].sum(axis=1)
    cost = record.flops_fraction[choices].mean(axis=1)
    for threshold in (1, 2, 3):
        exits = OraclePolicy((threshold,)).exits(record)
        mine, price = record.correct[rows, exits].sum(), record.flops_fraction[exits].mean()
        assert mine == correct[cost <= price + 1e-12].max()
    assert mine == record.correct.any(axis=1).sum()


def test_chance_is_even_independent_and_the_same_everywhere() -> None:
    record = make_record(4000, 5, 3)
    exits = RandomPolicy((0.3,)).exits(record)
    counts = np.bincount(exits, minlength=5)
    expected = 4000 * np.array([0.3, 0.21, 0.147, 0.1029, 0.2401])
    assert np.abs(counts - expected).max() < 3 * np.sqrt(4000 * 0.25)
    assert RandomPolicy((0.3,)).exits(record).tolist() == exits.tolist()
    draws = RandomPolicy((0.3,)).values(record)
    assert draws.dtype == np.float32 and draws.min() > 0 and draws.max() < 1
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.06
    assert draws.ravel()[::777].tolist() == [naive_draw(*divmod(i, 4)) for i in range(0, 16000, 777)]


def test_a_fixed_exit_is_the_model_that_ends_there() -> None:
    record = make_record(20, 4, 3)
    assert [set(FixedPolicy((k,)).exits(record)) for k in (1, 2, 4, 9)] == [{0}, {1}, {3}, {3}]


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
