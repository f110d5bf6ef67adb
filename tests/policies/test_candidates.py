"""Candidate thresholds: counts of images by exit, correct and incorrect, against one image after another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from synthetic import make_record

from dmpo_explore.policies.base import count_answers, count_reached
from dmpo_explore.policies.rules import ConfidencePolicy, FixedPolicy

RECORD = make_record(60, n_exits=4, seed=3)


def naive(exits: npt.ArrayLike) -> list[list[int]]:
    """(K, 2) by a loop."""
    counts = [[0, 0] for _ in range(RECORD.n_exits)]
    for row, exit in enumerate(np.asarray(exits)):
        counts[exit][int(not RECORD.correct[row, exit])] += 1
    return counts


def test_answers_are_counted_by_exit_and_correctness() -> None:
    exits = np.random.default_rng(0).integers(RECORD.n_exits, size=RECORD.n_images)
    assert count_answers(RECORD, exits).tolist() == naive(exits)


def test_no_image_counts_nothing() -> None:
    nothing = RECORD.subset(np.zeros(0, np.int64))
    assert count_answers(nothing, np.zeros(0, np.int64)).tolist() == [[0, 0]] * RECORD.n_exits


@pytest.mark.parametrize("level", [0.0, 0.3, 0.6, 0.9, 1.01])
def test_an_image_exits_at_the_first_exit_that_reaches_the_level(level: float) -> None:
    """A value equal to the level reaches it."""
    values = np.round(np.random.default_rng(1).random((RECORD.n_images, RECORD.n_exits - 1)), 1)
    exits = [next((k for k, value in enumerate(row) if value >= level), RECORD.n_exits - 1) for row in values]
    found = count_reached(values, RECORD.correct, np.array([0.5, level]))
    assert found.shape == (2, RECORD.n_exits, 2)
    assert found[1].tolist() == naive(exits)


def test_candidates_count_every_image_once() -> None:
    found = ConfidencePolicy((0.5,)).candidates(RECORD)
    assert (found.exit_counts.sum(axis=1) == RECORD.n_images).all()
    for i in (0, len(found.thresholds) // 2, -1):
        exits = ConfidencePolicy((found.thresholds[i],)).exits(RECORD)
        assert found.exit_counts[i].tolist() == np.bincount(exits, minlength=RECORD.n_exits).tolist()
        assert found.correct[i] == np.array(naive(exits))[:, 0].sum()


def test_candidates_of_a_fixed_exit_are_the_exits() -> None:
    found = FixedPolicy((1,)).candidates(RECORD)
    assert found.thresholds.tolist() == [1, 2, 3, 4]
    assert found.exit_counts.tolist() == (np.eye(4, dtype=int) * RECORD.n_images).tolist()
    assert found.correct.tolist() == RECORD.correct.sum(axis=0).tolist()
