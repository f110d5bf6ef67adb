"""Controls and bounds: the oracle is the best that can be, chance is even, a fixed exit is that exit."""

from __future__ import annotations

import numpy as np
import pytest
from draws import naive_draw
from synthetic import make_record

from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.rules import FixedPolicy, OraclePolicy, RandomPolicy


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


def test_the_oracle_cannot_decide_about_images() -> None:
    oracle = OraclePolicy((2,))
    with pytest.raises(
        ValueError, match="'oracle' reads the labels: it is a bound .* use another one, e.g. confidence"
    ):
        oracle.decide(0, {"prediction": np.zeros(2, np.int32)}, ())
    assert not POLICIES["oracle"].deployable and POLICIES["confidence"].deployable


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
