"""Streams of images: what an exit depends on, regret against every fixed threshold and streams that turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore import fit_policy
from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.neighbours.online_thresholds.bandit import fit_bandit
from dmpo_explore.neighbours.online_thresholds.stream import online_thresholds

CALIBRATION = make_record(2000, 4, 5, seed=1)
POLICY = fit_policy(CALIBRATION, flops=0.5)
BANDIT = fit_bandit(CALIBRATION, POLICY)
RECORD = make_record(600, 4, 5, seed=2, split="test")


@pytest.mark.parametrize("lower", [True, False])
def test_an_exit_depends_on_the_images_before_and_on_no_label(lower: bool) -> None:
    bandit, order = replace(BANDIT, lower=lower), np.random.default_rng(0).permutation(600)
    found = online_thresholds(RECORD, bandit, order)
    unlabelled = replace(RECORD, labels=np.zeros_like(RECORD.labels))
    assert (online_thresholds(unlabelled, bandit, order).exits == found.exits).all()
    other = np.concatenate([order[:300], order[300:][::-1]])  # another future
    assert (online_thresholds(RECORD, bandit, other).arms[:300] == found.arms[:300]).all()
    for place in (0, 17, 599):  # each image exits as under the frozen policy of its threshold
        row = order[place]
        frozen = bandit.policies[found.arms[place]]
        assert found.thresholds[place] == frozen.thresholds[0] and found.exits[row] == frozen.exits(RECORD)[row]


def test_later_exits_of_an_image_are_not_read() -> None:
    """A score behind the exit an image took changes nothing, also not for later images."""
    found = online_thresholds(RECORD, BANDIT)
    beyond = np.arange(4) > found.exits[:, None]
    changed = {name: np.where(beyond, 0.4, RECORD.score(name)).astype(np.float32) for name in ("confidence", "margin")}
    assert beyond.any() and (online_thresholds(replace(RECORD, **changed), BANDIT).arms == found.arms).all()


def test_regret_is_against_the_best_single_threshold() -> None:
    found = online_thresholds(RECORD, BANDIT)
    exits = BANDIT.arm_exits(RECORD)
    rows = np.arange(600)
    every = [BANDIT.rewards(exits[:, a], RECORD.confidence[rows, exits[:, a]]) for a in range(exits.shape[1])]
    earned = BANDIT.rewards(found.exits, RECORD.confidence[rows, found.exits])
    assert found.regret[-1] == pytest.approx(max(one.sum() for one in every) - earned.sum())
    assert found.regret.shape == found.thresholds.shape == (600,)


def test_a_stream_goes_on_where_another_ended() -> None:
    whole = online_thresholds(RECORD, BANDIT)
    first = online_thresholds(RECORD.subset(slice(0, 250)), BANDIT)
    pulls = list(first.state.pulls)
    second = online_thresholds(RECORD.subset(slice(250, 600)), BANDIT, state=first.state)
    assert first.state.pulls == pulls  # the given state stays
    assert np.concatenate([first.exits, second.exits]).tolist() == whole.exits.tolist()
    assert second.state.pulls == pytest.approx(whole.state.pulls)


def test_it_settles_near_the_fitted_threshold_where_nothing_changes() -> None:
    found = online_thresholds(make_record(8000, 4, 5, seed=5), BANDIT)
    best = BANDIT.thresholds[np.bincount(found.arms[-2000:]).argmax()]
    near = np.argsort(np.abs(BANDIT.thresholds - POLICY.thresholds[0]))[:3]
    assert best in BANDIT.thresholds[near] and found.regret[-1] < 0.05 * 8000


def test_a_policy_with_temperatures_reads_what_the_exit_loop_gives() -> None:
    """As the same policy without, on a record that has the scores at these temperatures."""
    temperatures = (2.0, 1.5, 0.5, 3.0)
    hot, policy = tempered_record(CALIBRATION, temperatures), replace(POLICY, temperatures=temperatures)
    found, expected = fit_bandit(CALIBRATION, policy), fit_bandit(hot, replace(policy, temperatures=()))
    assert found.reliability == expected.reliability and found.penalty == expected.penalty
    assert (found.thresholds == expected.thresholds).all()
    played, simulated = (
        online_thresholds(RECORD, found),
        online_thresholds(tempered_record(RECORD, temperatures), expected),
    )
    assert (played.exits == simulated.exits).all() and (played.regret == simulated.regret).all()


ONCE = "each row of the record once, 0 to 599"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: online_thresholds(RECORD, BANDIT, [0, 1]), ONCE),
        (lambda: online_thresholds(RECORD, BANDIT, np.zeros(600, int)), ONCE),
        (lambda: online_thresholds(RECORD, BANDIT, np.arange(1, 601)), ONCE),
        (lambda: online_thresholds(make_record(20, 3), BANDIT), "a model with 4 exits, the record has 3"),
    ],
)
def test_what_cannot_be_played_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
