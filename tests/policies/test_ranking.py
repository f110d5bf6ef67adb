"""Rankings by a policy's value: ties, thresholds midway between neighbours, thresholds for shares."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.policies import ranking
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.ranking import TIE, binned_values, leaning, midway, share_thresholds, tie_ends
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy
from dmpo_explore.records.record import ExitRecord


def test_ties_end_where_a_gap_opens() -> None:
    ranked = np.array([0.9, 0.9 - 5e-7, 0.5, 0.5, 0.1])
    assert TIE == 1e-6 and tie_ends(ranked).tolist() == [2, 4, 5]
    assert midway(ranked, np.array([2, 4]), ConfidencePolicy((0.5,))).tolist() == pytest.approx([0.7, 0.3])
    assert midway(-ranked[::-1], np.array([1]), EntropyPolicy((0.5,))).tolist() == pytest.approx([0.3])


def test_leaning_is_higher_where_images_exit_sooner() -> None:
    record = make_record(30, 4, 3)
    np.testing.assert_array_equal(leaning(record, ConfidencePolicy((0.5,))), record.confidence[:, :-1])
    np.testing.assert_array_equal(leaning(record, EntropyPolicy((0.5,))), -record.entropy[:, :-1])


@pytest.mark.parametrize("name", ["confidence", "entropy"])
def test_as_many_exit_as_are_wanted(name: str) -> None:
    record = make_record(200, 4, 5)
    policy = POLICIES[name]((POLICIES[name].threshold_all,))
    thresholds = share_thresholds(record, policy, lambda exit, staying: (20, 0, staying)[exit])  # type: ignore[arg-type]
    assert thresholds[1:] == [policy.threshold_none, policy.threshold_all]
    counts = np.bincount(POLICIES[name](tuple(thresholds)).exits(record), minlength=4)
    assert counts.tolist() == [20, 0, 180, 0]


def exact(policy: Policy, record: ExitRecord, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exit counts and correct predictions when each threshold is applied."""
    counts = np.stack([policy.with_thresholds(record, (t,)).counts(record, (t,))[0] for t in thresholds.tolist()])
    return counts.sum(axis=2), counts[..., 0].sum(axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["confidence", "margin", "entropy", "gate"])
@pytest.mark.parametrize(("bins", "settings"), [(2**20, 2**16), (64, 40), (7, 3)])
def test_bins_count_exactly_at_their_thresholds(name: str, bins: int, settings: int) -> None:
    record = make_record(400, 5, 5)
    policy = POLICIES[name]((POLICIES[name].threshold_none,))
    if policy.learns:
        policy = policy.learn(record)
    found = binned_values(record, policy, bins, settings)
    counts, correct = exact(policy, record, found.thresholds)
    np.testing.assert_array_equal(found.exit_counts, counts)
    np.testing.assert_array_equal(found.correct, correct)
    assert found.exit_counts[0].tolist() == [400, 0, 0, 0, 0] and found.exit_counts[-1].tolist() == [0, 0, 0, 0, 400]
    assert 2 <= len(found.thresholds) <= settings + 1
    if bins > 1000:  # one image between neighbouring bins at most, nearly everywhere
        assert len(found.thresholds) > 0.9 * len(ranking.between_values(record, policy).thresholds)


def test_bins_part_what_a_chain_of_ties_does_not() -> None:
    """A thousand confidences 5e-7 apart: each is tied with the next, so sorting leaves two outcomes."""
    chain = (0.5 + 5e-7 * np.arange(1000, dtype=np.float32))[:, None]
    confidence = np.concatenate([chain, np.full((1000, 1), 0.9, np.float32)], axis=1).astype(np.float32)
    logits = np.stack([np.log(confidence), np.log1p(-confidence)], axis=2)
    record = dx.record_logits([(logits, np.zeros(1000, int))], flops=(1, 2))
    policy = ConfidencePolicy((0.5,))
    assert len(ranking.between_values(record, policy).thresholds) == 2
    found = binned_values(record, policy)
    assert len(found.thresholds) > 300
    np.testing.assert_array_equal(found.exit_counts, exact(policy, record, found.thresholds)[0])


def test_equal_values_leave_two_outcomes() -> None:
    logits = np.zeros((10, 3, 2))
    record = dx.record_logits([(logits, np.zeros(10, int))], flops=(1, 2, 3))
    found = binned_values(record, ConfidencePolicy((0.5,)))
    assert found.exit_counts.tolist() == [[10, 0, 0], [0, 0, 10]] and found.correct.tolist() == [10, 10]


def test_many_values_are_counted_in_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    record, policy = make_record(400, 5, 5), ConfidencePolicy((0.5,))
    sorted_curve = dx.trade_off(record, policy)
    monkeypatch.setattr(ranking, "MOST_SORTED", 100)
    binned_curve = dx.trade_off(record, policy)
    at = np.linspace(0.3, 0.9, 20)
    a, b = (np.interp(at, curve["flops_fraction"], curve["accuracy"]) for curve in (sorted_curve, binned_curve))
    np.testing.assert_allclose(a, b, atol=0.01)
    assert len(ranking.between_values(record, policy).thresholds) == len(binned_values(record, policy).thresholds)
