"""Policies on scores against naive loops written from their definitions; patience against PABEE."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from synthetic import record_from_logits

from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy, MarginPolicy, PatiencePolicy


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


def test_patience_t_needs_t_plus_1_agreeing_exits() -> None:
    says = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 1], [0, 1, 0, 1, 0, 1]]
    record = record_from_logits(np.eye(2)[np.array(says)], [0] * 4)
    found = {t: PatiencePolicy((t,)).exits(record).tolist() for t in range(7)}
    assert found[0] == [0, 0, 0, 0]
    assert found[1] == [1, 2, 3, 5]
    assert found[2] == [2, 3, 4, 5]
    assert found[3] == [3, 4, 5, 5]
    assert found[6] == [5, 5, 5, 5]


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
