"""What is tried next and who is stopped: the process against the textbook formula, and trajectories made up for it."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from search_settings import SPACE, trial

from dmpo_explore.neighbours.trajectory_search import proposals
from dmpo_explore.neighbours.trajectory_search.proposals import (
    ENOUGH,
    LENGTHS,
    MEMORIES,
    NOISES,
    STARTUP,
    LearningCurveSampler,
    _followed,
    _kernel,
    attained,
    best_candidate,
    can_extend,
    expected_improvement,
    fit_surrogate,
    propose,
)
from dmpo_explore.search.goal import Goal, LearningCurve, all_points
from dmpo_explore.search.study import EPOCH, distributions, read_curves, suggest


def course(x: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """(N, 2): rises with the epoch; its end depends on the first of two settings."""
    end = 0.9 - 0.5 * (x[:, 0] - 0.6) ** 2
    return np.stack([end - 0.4 / epochs, np.full(len(x), 7.0)], axis=1)


@pytest.fixture(scope="module")
def seen() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.repeat(rng.uniform(size=(25, 2)), 4, axis=0), np.tile(np.arange(1, 5), 25)


def test_predictions_are_those_of_the_textbook(seen: tuple[np.ndarray, np.ndarray]) -> None:
    inputs, epochs = seen[0][:20], seen[1][:20]
    answers = course(inputs, epochs)
    process = fit_surrogate(inputs, epochs, answers)
    assert process.length in LENGTHS and process.memory in MEMORIES
    there, then = np.array([[0.3, 0.3], [0.9, 0.1]]), np.array([2, 6])
    kernel = _kernel(inputs, np.log(epochs), inputs, np.log(epochs), process.length, process.memory)
    covariance = process.factor @ process.factor.T
    noise = covariance[0, 0] - kernel[0, 0]
    assert min(abs(noise - n) for n in NOISES) < 1e-9
    across = _kernel(there, np.log(then), inputs, np.log(epochs), process.length, process.memory)
    target = (answers[:, 0] - answers[:, 0].mean()) / answers[:, 0].std()
    mean = answers[:, 0].mean() + answers[:, 0].std() * across @ np.linalg.solve(covariance, target)
    variance = 1 - np.einsum("mn,mn->m", across, np.linalg.solve(covariance, across.T).T)
    found, spread = process.predict(there, then)
    assert found[:, 0] == pytest.approx(mean) and spread[:, 0] == pytest.approx(np.sqrt(variance) * answers[:, 0].std())
    assert found[:, 1] == pytest.approx(7) and spread[:, 1].tolist() == [0, 0]  # what never varies


def test_it_learns_a_course_and_knows_where_it_does_not(seen: tuple[np.ndarray, np.ndarray]) -> None:
    process = fit_surrogate(*seen, course(*seen))
    rng = np.random.default_rng(1)
    there, then = rng.uniform(0.1, 0.9, size=(30, 2)), rng.integers(1, 5, size=30)
    mean, spread = process.predict(there, then)
    assert np.abs(mean[:, 0] - course(there, then)[:, 0]).max() < 0.03
    assert process.predict(np.array([[5.0, 5.0]]), [2])[1][0, 0] > 3 * spread[:, 0].max()


def test_the_likeliest_of_the_grid_is_taken() -> None:
    rng = np.random.default_rng(0)
    inputs, epochs = rng.uniform(size=(60, 2)), np.ones(60)
    rough = rng.normal(size=(60, 3))
    smooth = np.stack([inputs.sum(axis=1)] * 3, axis=1)
    noise = [fit_surrogate(inputs, epochs, a).factor[0, 0] ** 2 - 1 for a in (rough, smooth)]
    assert noise == pytest.approx([NOISES[-1], NOISES[0]])


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


EARLY = [trial(i, [0.5]) for i in range(ENOUGH)]
LONG = [trial(i, [0.5, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75], planned=8) for i in range(ENOUGH)]
STILL = [trial(i, [0.5, 0.5, 0.5, 0.5]) for i in range(19)]
MIXED = [*STILL, trial(20, [0.1, 0.55])]  # the error of the last was halved
TIMED = Goal(max_seconds=10)


@pytest.mark.parametrize(
    ("tried", "past", "goal", "goes_on"),
    [
        (trial(99, [0.4]), PAST, GOAL, False),  # 1 - 0.6 / 2 = 0.7 at best, 0.75 is there
        (trial(99, [0.55]), PAST, GOAL, True),  # 1 - 0.45 / 2 = 0.775
        (trial(99, [0.4], flops=0.2), PAST, GOAL, True),  # nothing is as cheap
        (trial(99, [0.45], flops=0.6), PAST, GOAL, False),
        (trial(99, [0.2, 0.3, 0.62]), PAST, GOAL, False),  # from epoch 3 on the error falls by a sixth: 0.683
        # few trials stop nobody, and a finished one cannot go on
        (trial(99, [0.01]), PAST[1:], GOAL, True),
        (trial(0, [0.01]), PAST, GOAL, True),  # its own earlier attempt does not count
        (trial(99, [0.9, 0.9, 0.9, 0.99]), [], GOAL, False),
        (trial(99, [0.01]), EARLY, GOAL, True),  # nobody has gone further
        # the most improving trial decides
        (trial(99, [0.4]), STILL, GOAL, False),
        (trial(99, [0.4]), MIXED, GOAL, True),
        (trial(99, [0.1]), [*MIXED, trial(21, [0.7])], GOAL, False),
        # shares of training are compared, not epochs
        (trial(99, [0.4, 0.55]), LONG, GOAL, True),  # half way, as they were behind epoch 4
        (trial(99, [0.4, 0.4, 0.55]), LONG, GOAL, False),  # three quarters: nothing came after epoch 6
        # where time counts, later epochs must be in time
        (trial(99, [0.55], second=4.0), PAST, TIMED, True),
        (trial(99, [0.55, 0.6, 0.68], second=4.0), PAST, TIMED, False),  # its fourth epoch ends after 16 seconds
        (trial(99, [0.55, 0.6, 0.74], second=2.0), PAST, TIMED, True),
    ],
)
def test_a_hopeless_trial_is_stopped_and_a_hopeful_one_is_not(
    tried: LearningCurve, past: list[LearningCurve], goal: Goal, goes_on: bool
) -> None:
    assert can_extend(tried, past, goal) == goes_on


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


def begin(seed: int = 0) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=LearningCurveSampler(SPACE, seed))


def ask(study: optuna.Study, accuracy: float | None = None) -> optuna.Trial:
    """A trial; with an accuracy, after its only epoch."""
    trial = study.ask()
    suggest(trial, SPACE)
    trial.set_user_attr("planned", 4)
    if accuracy is not None:
        entry = {"accuracy": [accuracy], "flops_fraction": [0.2], "threshold": [0.5], "seconds": 1.0}
        trial.set_user_attr(f"{EPOCH}1", entry)
    return trial


def test_settings_lie_in_the_space_and_are_repeatable() -> None:
    drawn = [[ask(study).params for _ in range(STARTUP)] for study in (begin(), begin(), begin(1))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({tuple(p.values()) for p in drawn[0]}) == STARTUP
    for params in drawn[0]:
        assert params.keys() == SPACE.domains.keys() == distributions(SPACE).keys()
        assert all(d._contains(d.to_internal_repr(params[key])) for key, d in distributions(SPACE).items())
        SPACE.config(params)


def test_later_settings_are_proposed_from_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin()
    asked: list[int] = []
    monkeypatch.setattr(proposals, "propose", lambda space, known, rng: asked.append(len(known)) or space.draw(rng))
    for _ in range(STARTUP + 2):
        study.tell(ask(study, 0.5), (0.5, 0.2))
    assert asked == [STARTUP, STARTUP + 1]


@pytest.mark.slow
def test_a_proposal_follows_what_extends_the_front() -> None:
    rng = np.random.default_rng(0)
    study = begin()
    for _ in range(30):
        trial = study.ask()
        params = suggest(trial, SPACE)
        trial.set_user_attr("planned", 2)
        good = 0.9 - abs(params["model.dropout"] - 0.1) - 0.2 * (params["model.exits"] == 2)
        trial.set_user_attr(f"{EPOCH}1", {"accuracy": [good], "flops_fraction": [0.2], "seconds": 1.0})
        study.tell(trial, (good, 0.2))
    known = read_curves(study.get_trials())
    proposed = [propose(SPACE, known, rng) for _ in range(6)]
    assert np.mean([abs(p["model.dropout"] - 0.1) for p in proposed]) < 0.08  # drawn: 0.17
    assert sum(p["model.exits"] == "[1, 3]" for p in proposed) >= 5
