"""Rankings by a policy's value: ties, thresholds midway between neighbours, thresholds for shares."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.ranking import TIE, leaning, midway, share_thresholds, tie_ends
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy


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
