"""Thresholds fitted to shares of images per exit, and budgeted's own shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_record, record_from_logits

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.inference.exit_loop import run_early_exit

scored = st.sampled_from(["confidence", "entropy", "margin"])


@given(scored, st.integers(0, 999), st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any))
def test_shares_are_met(name: str, seed: int, weights: list[int]) -> None:
    record = make_record(100, 4, 3, seed)
    shares = [w / sum(weights) for w in weights]
    policy = fit_policy(record, name, shares=shares)
    assert len(policy.thresholds) == 3
    counts = np.bincount(policy.exits(record), minlength=4)
    assert counts[:3].tolist() == [int(100 * share + 1e-9) for share in shares[:3]]


def test_the_released_shares_need_not_sum_to_one_exactly() -> None:
    record = make_record(1000, 4, 10)
    shares = (0.1964, 0.2542, 0.1338, 0.4155)
    counts = np.bincount(fit_policy(record, shares=shares).exits(record), minlength=4)
    assert counts.tolist() == [196, 254, 133, 417]


def test_tied_shares_take_the_whole_group() -> None:
    record = record_from_logits(np.zeros((10, 2, 3)), np.zeros(10))
    assert (fit_policy(record, shares=(0.5, 0.5)).exits(record) == 0).all()
    assert (fit_policy(record, shares=(0.0, 1.0)).exits(record) == 1).all()
    two_of_four = record_from_logits(np.array([3 + 1e-5, 3, 1, 1])[:, None, None] * np.eye(2)[[0, 0]], np.zeros(4))
    assert fit_policy(two_of_four, shares=(0.25, 0.75)).exits(two_of_four).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.0)])
def test_patience_has_no_shares(shares: Sequence[float]) -> None:
    with pytest.raises(ValueError, match="reads a score"):
        fit_policy(make_record(20, 3, 3), "patience", shares=shares)


def test_shares_for_budgeted_are_confidence_levels() -> None:
    record, shares = make_record(1000, 4, 5), (0.4, 0.3, 0.2, 0.1)
    budgeted, confidence = fit_policy(record, "budgeted", shares=shares), fit_policy(record, shares=shares)
    assert budgeted.learned[0] == pytest.approx(confidence.thresholds, abs=1e-7)
    assert budgeted.thresholds == pytest.approx((0.6, 0.5, 1 / 3), abs=1e-6)  # those who go on
    assert budgeted.exits(record).tolist() == confidence.exits(record).tolist()
    two = make_record(100, 2, 3)
    assert np.bincount(fit_policy(two, "budgeted", shares=(0.3, 0.7)).exits(two)).tolist() == [30, 70]


@pytest.mark.parametrize("given", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 0.5, 0.25), (0.3, 1, 0)])
def test_given_shares_per_exit_are_what_goes_on(given: tuple[float, ...]) -> None:
    """From fit_policy to a live decision; a share of 1 keeps all images, 0 no image."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 4, 5)) * 3
    record = record_from_logits(logits, np.arange(400) % 5)
    policy = fit_policy(record, "budgeted", threshold=given)
    exits = policy.exits(record)
    there = 400
    for exit, share in enumerate(given):
        gone = int((exits == exit).sum())
        assert gone == pytest.approx(there * (1 - share), abs=1)
        there -= gone
    steps = [lambda x, side, k=k: (x, x[:, k], side) for k in range(4)]  # type: ignore[misc]
    np.testing.assert_array_equal(run_early_exit(steps, logits.astype(np.float32), policy).exit, exits)
    ends = replace(policy, thresholds=(1.0, 1.0, 1.0), learned=())  # needs nothing learned
    assert set(ends.exits(record)) == {3}


def test_given_shares_must_be_one_per_exit_but_the_last() -> None:
    with pytest.raises(ValueError, match="has 2 thresholds; 4 exits need 1 or 3"):
        fit_policy(make_record(20, 4, 3), "budgeted", threshold=(1, 0.5))
