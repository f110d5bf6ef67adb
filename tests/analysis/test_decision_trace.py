"""A way ends where the policy says, for every policy, and its sentence tells the numbers that decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, ready_policy

from dmpo_explore.analysis.decision_trace import COMPARED, likeliest, way
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.controls import OraclePolicy
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy, PatiencePolicy
from dmpo_explore.policies.scalar import ScalarPolicy

RECORD = make_record(120, 4, 5, seed=3)
SINGLE = make_record(10, 1, 5)
MIDDLE = {"entropy": 0.9, "patience": 1, "fixed": 2, "margin": 0.4, "budgeted": 0.4, "random": 0.4, "gate": 0.8}


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_way_ends_where_the_policy_lets_the_image_go(name: str) -> None:
    kind = POLICIES[name]
    for threshold in (kind.threshold_all, MIDDLE.get(name, 0.7), kind.threshold_none):
        policy = ready_policy(name, threshold)
        exits = policy.exits(RECORD)
        ways = [way(RECORD, policy, row) for row in range(RECORD.images)]
        assert [w.exit for w in ways] == exits.tolist()
        for w in ways:
            assert w.values.shape == w.thresholds.shape == w.leaves.shape == (3,)
            reached = w.values <= np.float32(w.thresholds) if w.falling else w.values >= np.float32(w.thresholds)
            assert np.array_equal(reached, w.leaves)
            assert f"exit {w.exit + 1}" in w.reason() or (w.exit == 3 and "Goes to the last exit" in w.reason())


def test_every_policy_has_a_word_for_what_it_compares() -> None:
    assert set(COMPARED) == set(DEPLOYABLE)


def test_values_are_those_of_the_record() -> None:
    policy = ready_policy("patience+confidence", 0.8)
    assert isinstance(policy, ScalarPolicy)
    expected = policy.values(RECORD)
    for row in (0, 7, 119):
        assert way(RECORD, policy, row).values.tolist() == expected[row].tolist()


def test_temperatures_are_read_too() -> None:
    policy = fit_policy(RECORD, "confidence", threshold=0.7, temperatures="fit")
    assert policy.temperatures
    for row in range(20):
        found = way(RECORD, policy, row)
        assert found.values.tolist() == policy.columns(RECORD)["confidence"][row, :3].tolist()
        assert found.exit == policy.exits(RECORD)[row]


def test_the_sentence_tells_what_decided() -> None:
    policy = ConfidencePolicy((0.7,))
    exits, sure = policy.exits(RECORD), RECORD.confidence
    first, second, last = (int(np.flatnonzero(exits == exit)[0]) for exit in (0, 1, 3))
    said = way(RECORD, policy, first).reason()
    assert said == f"Leaves at exit 1: there its confidence of {sure[first, 0]:.1%} reaches the threshold of 70.0%."
    said = way(RECORD, policy, second).reason()
    assert said.endswith(f", and exit 1, with {sure[second, 0]:.1%}, was not enough.") and "exit 2" in said
    said = way(RECORD, policy, last).reason()
    best = int(sure[last, :3].argmax())
    assert f"closest was exit {best + 1} with {sure[last, best]:.1%}, where 70.0% is asked" in said
    assert way(SINGLE, policy, 0).reason() == "There is a single exit, so every image leaves there."


def test_thresholds_that_nothing_reaches_and_near_ties_are_legible() -> None:
    assert "more than 100%" in way(RECORD, ConfidencePolicy((ConfidencePolicy.threshold_none,)), 0).reason()
    assert "less than 0 nats" in way(RECORD, EntropyPolicy((EntropyPolicy.threshold_none,)), 0).reason()
    assert "more than there are exits" in way(RECORD, PatiencePolicy((PatiencePolicy.threshold_none,)), 0).reason()
    found = replace(way(RECORD, ConfidencePolicy((0.5,)), 0), values=np.full(3, 0.73091), thresholds=np.full(3, 0.7309))
    assert found.shown(0) == ("73.091%", "73.090%")


def test_what_cannot_decide_is_refused() -> None:
    with pytest.raises(ValueError, match="knows the labels"):
        way(RECORD, OraclePolicy((2,)), 0)
    with pytest.raises(ValueError, match="2 thresholds; 4 exits"):
        way(RECORD, ConfidencePolicy((0.5, 0.5)), 0)
    with pytest.raises(IndexError):
        way(RECORD, ConfidencePolicy((0.5,)), 120)


@given(seed=st.integers(0, 1000), classes=st.integers(1, 9), exits=st.integers(1, 4), n=st.integers(1, 12))
def test_the_likeliest_are_torchs_top(seed: int, classes: int, exits: int, n: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(exits, classes)).astype(np.float32) * 4
    found, shares = likeliest(logits, n)
    expected = torch.softmax(torch.from_numpy(logits), dim=1).topk(min(n, classes), dim=1)
    assert np.allclose(shares, expected.values, atol=1e-6)
    assert np.allclose(np.take_along_axis(logits, found, 1), np.take_along_axis(logits, expected.indices.numpy(), 1))
    cool = likeliest(logits, n, (2.0,) * exits)[1]
    assert (cool[:, 0] <= shares[:, 0] + 1e-3).all()


def test_likeliest_wants_one_image() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*must be \(K, C\)"):
        likeliest(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="2 temperatures"):
        likeliest(np.zeros((3, 4)), 5, (1.0, 2.0))
