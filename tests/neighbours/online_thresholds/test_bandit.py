"""The bandit over thresholds: its rewards and choices against a plain UCB1, what it fits, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.neighbours.online_thresholds.bandit import ThresholdBandit, fit_bandit
from dmpo_explore.policies.learned import log_odds
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy

CALIBRATION = make_record(2000, 4, 5, seed=1)


def bandit(**changes: Any) -> ThresholdBandit:
    arms = tuple(ConfidencePolicy((t,)) for t in (0.3, 0.6, 0.9))
    values: dict[str, Any] = {"reliability": ((1.0, 0.0),) * 4, "compute": (0.3, 0.5, 0.7, 0.9), "penalty": 0.2}
    return ThresholdBandit(arms, **values | changes)


def test_a_reward_is_confidence_times_reliability_less_a_penalty_on_late_exits() -> None:
    found = bandit(reliability=((1.0, 0.0), (2.0, 0.5), (1.0, 0.0), (1.0, 0.0))).rewards([0, 1], [0.8, 0.6])
    second = 1 / (1 + np.exp(-(2 * np.log(0.6 / 0.4) + 0.5)))
    assert found == pytest.approx([0.8 * 0.8 - 0.2 * 0.3, 0.6 * second - 0.2 * 0.5])
    assert bandit().rewards([[3]], [[0.5]]).shape == (1, 1)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("memory", [None, 40])
def test_choices_are_those_of_a_plain_ucb(lower: bool, memory: int | None) -> None:
    """Every mean and bound computed from the whole past, at every image."""
    rewards = np.random.default_rng(3).uniform(size=(120, 3))
    one, past = bandit(exploration=0.3, lower=lower, memory=memory), list[tuple[int, int, float]]()
    state = one.start()
    for t, row in enumerate(rewards):
        keep = (lambda age: 1.0) if memory is None else (lambda age: np.exp(-age / memory))
        pulls, totals, images = np.zeros(3), np.zeros(3), sum(keep(t - 1 - s) for s in range(t))
        for s, arm, reward in past:
            pulls[arm] += keep(t - 1 - s)
            totals[arm] += keep(t - 1 - s) * reward
        unused = np.flatnonzero(pulls == 0)
        if len(unused):
            expected = int(unused[-1])
        else:
            bound = totals / pulls + 0.3 * np.sqrt(2 * np.log(max(images, 1)) / pulls)
            expected = int(bound.argmax())
        arm = one.choose(state)
        assert arm == expected, t
        known = range(arm + 1) if lower else [arm]
        past += [(t, a, row[a]) for a in known]
        one.update(state, arm, [row[a] for a in known])
    assert state.pulls[0] > 0 and 1 < state.images <= 120


@pytest.mark.parametrize("policy", [ConfidencePolicy, EntropyPolicy])
def test_the_fitted_threshold_is_the_best_arm_where_it_was_fitted(policy: Any) -> None:
    start = fit_policy(CALIBRATION, policy.name, flops=0.5)
    one = fit_bandit(CALIBRATION, start, n_arms=8)
    assert len(one.policies) == 9 and start in one.policies
    exits = one.arm_exits(CALIBRATION)
    assert (np.diff(exits, axis=1) >= 0).all()  # a dearer threshold: no image exits earlier
    confidence = np.stack([CALIBRATION.confidence[np.arange(2000), exits[:, a]] for a in range(9)], axis=1)
    mean = one.rewards(exits, confidence).mean(axis=0)
    compute = CALIBRATION.flops_fraction[exits].mean(axis=0)
    best, wanted = int(mean.argmax()), one.policies.index(start)
    tried = [replace(one, penalty=p).rewards(exits, confidence).mean(axis=0).argmax() for p in np.linspace(0, 3, 301)]
    assert abs(compute[best] - compute[wanted]) <= min(abs(compute[a] - compute[wanted]) for a in tried) + 1e-9


def test_reliability_is_calibrated_where_it_was_fitted() -> None:
    one = fit_bandit(CALIBRATION, fit_policy(CALIBRATION, flops=0.5))
    for k, (slope, intercept) in enumerate(one.reliability):
        odds = log_odds(CALIBRATION.confidence[:, k].astype(float))
        assert (1 / (1 + np.exp(-(slope * odds + intercept)))).mean() == pytest.approx(
            CALIBRATION.correct[:, k].mean(), abs=2e-3
        )


FITTED = fit_policy(CALIBRATION, flops=0.5)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: bandit(penalty=-0.1), "penalty=-0.1 must be a finite number from 0"),
        (lambda: bandit(exploration=np.inf), "exploration=inf"),
        (lambda: bandit(memory=0), "memory=0 must be at least 1 image"),
        (lambda: fit_bandit(make_record(50, split="test"), FITTED), "on test it is only played"),
        (
            lambda: fit_bandit(CALIBRATION, ConfidencePolicy((0.5, 0.6, 0.7))),
            "moves one threshold; policy 'confidence' has 3",
        ),
        (lambda: fit_bandit(CALIBRATION, fit_policy(CALIBRATION, "oracle", threshold=1)), "reads the labels"),
        (lambda: fit_bandit(CALIBRATION, FITTED, n_arms=1), "n_arms=1 must be at least 2"),
    ],
)
def test_what_cannot_be_fitted_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
