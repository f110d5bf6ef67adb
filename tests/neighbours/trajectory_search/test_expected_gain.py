"""Who is stopped and what is tried next, on trajectories made up for it."""

from __future__ import annotations

import numpy as np
import pytest
from search_settings import trial

from dmpo_explore.neighbours.trajectory_search.proposals import (
    ENOUGH,
    _followed,
    attained,
    best_candidate,
    can_extend,
    expected_improvement,
)
from dmpo_explore.search.goal import Goal, LearningCurve, all_points

GOAL = Goal()


PAST = [trial(i, [0.5, 0.6, 0.7, 0.75]) for i in range(ENOUGH)]  # the error is halved behind epoch 1


def test_what_is_attained_at_each_budget_and_time() -> None:
    points = np.array([[0.5, 0.3, 10.0], [0.9, 0.6, 50.0], [0.7, 0.6, 20.0]])
    curve = attained(points, GOAL)
    assert curve.shape == (20, 1)
    assert [curve[GOAL.budgets <= 0.25].max(), *curve[[5, 10, 11, 19], 0]] == [0, 0.5, 0.5, 0.9, 0.9]
    timed = attained(points, Goal(max_seconds=50))
    assert timed.shape == (20, 10) and timed[19].tolist() == [0, 0.5, 0.5, *[0.7] * 6, 0.9]
    assert (attained(np.empty((0, 3)), GOAL) == 0).all()


def test_a_hopeless_trial_is_stopped_and_a_hopeful_one_is_not() -> None:
    assert not can_extend(trial(99, [0.4]), PAST, GOAL)  # 1 - 0.6 / 2 = 0.7 at best, 0.75 is there
    assert can_extend(trial(99, [0.55]), PAST, GOAL)  # 1 - 0.45 / 2 = 0.775
    assert can_extend(trial(99, [0.4], flops=0.2), PAST, GOAL)  # nothing is as cheap
    assert not can_extend(trial(99, [0.45], flops=0.6), PAST, GOAL)
    assert not can_extend(trial(99, [0.2, 0.3, 0.62]), PAST, GOAL)  # from epoch 3 on the error falls by a sixth: 0.683


def test_few_trials_stop_nobody_and_a_finished_one_cannot_go_on() -> None:
    assert can_extend(trial(99, [0.01]), PAST[1:], GOAL)
    assert can_extend(trial(0, [0.01]), PAST, GOAL)  # its own earlier attempt does not count
    assert not can_extend(trial(99, [0.9, 0.9, 0.9, 0.99]), [], GOAL)
    early = [trial(i, [0.5]) for i in range(ENOUGH)]
    assert can_extend(trial(99, [0.01]), early, GOAL)  # nobody has gone further


def test_the_most_improving_trial_decides() -> None:
    mixed = [trial(i, [0.5, 0.5, 0.5, 0.5]) for i in range(19)]
    assert not can_extend(trial(99, [0.4]), mixed, GOAL)
    mixed.append(trial(20, [0.1, 0.55]))  # its error was halved, as it would have to be
    assert can_extend(trial(99, [0.4]), mixed, GOAL)
    assert not can_extend(trial(99, [0.1]), [*mixed, trial(21, [0.7])], GOAL)


def test_shares_of_training_are_compared_not_epochs() -> None:
    long = [trial(i, [0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75], planned=8) for i in range(ENOUGH)]
    assert can_extend(trial(99, [0.4, 0.55]), long, GOAL)  # half way, as they were behind epoch 4
    assert not can_extend(trial(99, [0.4, 0.4, 0.55]), long, GOAL)  # three quarters: nothing came after epoch 6


def test_where_time_counts_later_epochs_must_be_in_time() -> None:
    goal = Goal(max_seconds=10)
    slow = trial(99, [0.55, 0.6, 0.68], second=4.0)  # its fourth epoch ends after 16 seconds
    assert can_extend(trial(99, [0.55], second=4.0), PAST, goal)
    assert not can_extend(slow, PAST, goal)
    assert can_extend(trial(99, [0.55, 0.6, 0.74], second=2.0), PAST, goal)


def test_what_extends_the_front_is_tried_next() -> None:
    rng = np.random.default_rng(0)
    known = rng.uniform(0, 0.8, size=(40, 2))  # accuracy rises with the first setting, compute falls with the second
    past = [
        LearningCurve(i, {}, 3, {e: np.array([[0.3 + 0.2 * x + 0.1 * e, 0.9 - 0.5 * y, 1.0]]) for e in (1, 2, 3)})
        for i, (x, y) in enumerate(known)
    ]
    candidates = np.array([[0.05, 0.05], [0.95, 0.75], [0.05, 0.7]])
    assert best_candidate(past, known, candidates, [3, 3, 3], GOAL, seed=1) == 1
    assert best_candidate(past, known, candidates[[0, 2, 1]], [3, 3, 3], GOAL, seed=1) == 2
    twice = np.concatenate([candidates[1:2], candidates[1:2]])
    assert best_candidate(past, known, twice, [12, 3], GOAL, seed=1) == 1  # the same for fewer epochs


def test_settings_that_were_stopped_are_not_proposed_again() -> None:
    rng = np.random.default_rng(0)
    known = np.concatenate([rng.uniform(size=(30, 1)), [[3.0]]])
    past = [trial(i, [0.5 + 0.1 * x, 0.7 + 0.1 * x, 0.8, 0.8], planned=4) for i, (x,) in enumerate(known[:-1])]
    stopped = trial(30, [0.2])
    assert best_candidate([*past, stopped], known, np.array([[3.0], [1.3]]), [4, 4], GOAL, seed=0) == 1
    (first, seen), (end, followed) = _followed(stopped)
    assert (first, end) == (1, 4) and followed.tolist() == seen.tolist()  # it is taken to end as it was
    assert [epoch for epoch, _ in _followed(past[0])] == [1, 2, 3, 4]


def test_expected_improvement_is_the_mean_over_a_normal() -> None:
    rng = np.random.default_rng(0)
    for mean, spread, best in ((0.5, 0.1, 0.6), (0.7, 0.05, 0.6), (0.1, 0.2, 0.9)):
        drawn = np.maximum(rng.normal(mean, spread, 1_000_000) - best, 0).mean()
        found = expected_improvement(np.array(mean), np.array(spread), np.array(best))
        assert float(found) == pytest.approx(drawn, rel=0.02, abs=1e-5)
    assert expected_improvement(np.array([0.5, 0.7]), np.zeros(2), np.array(0.6)).tolist() == [0, pytest.approx(0.1)]


def test_without_hope_one_is_drawn() -> None:
    past = [trial(i, [0.9, 0.9]) for i in range(10)]
    known = np.zeros((10, 1))
    drawn = {best_candidate(past, known, np.zeros((5, 1)), [2] * 5, GOAL, seed) for seed in range(20)}
    assert len(drawn) > 2 and drawn <= set(range(5))


def test_where_time_counts_a_quick_setting_is_worth_trying() -> None:
    goal = Goal(max_seconds=20)
    kinds = (
        [(0.0, 0.0)] * 4 + [(1.0, 0.0)] * 4 + [(1.0, 1.0)] * 4
    )  # slow or not, good or not; quick and good is unknown
    past = [trial(i, [0.5 + 0.3 * good], second=2 + 14 * slow) for i, (slow, good) in enumerate(kinds)]
    candidates = np.array([[1.0, 1.0], [0.0, 1.0]])
    assert best_candidate(past, np.array(kinds), candidates, [1, 1], goal, seed=0) == 1
    front = attained(all_points(past), goal)
    assert front[19].tolist() == [pytest.approx(v) for v in (0.5,) * 7 + (0.8,) * 3]
