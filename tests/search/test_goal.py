"""Fronts against brute force, hypervolumes against closed forms and optuna's, operating points against fit_policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from search_settings import trial
from synthetic import make_record

from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.search.goal import Goal, LearningCurve, all_points, hypervolume, non_dominated, operating_points

GOAL = Goal()
coarse = st.integers(0, 6).map(lambda i: i / 4)  # ties and equal points are the rule


def tables(objectives: int) -> st.SearchStrategy[npt.NDArray[Any]]:
    rows = st.lists(st.tuples(*[coarse] * objectives), max_size=12)
    return rows.map(lambda table: np.array(table, np.float64).reshape(-1, objectives))


def brute_force(costs: npt.NDArray[Any]) -> list[bool]:
    beaten = []
    for i, row in enumerate(costs):
        better = [(o <= row).all() and ((o < row).any() or j < i) for j, o in enumerate(costs) if j != i]
        beaten.append(any(better))
    return [not b for b in beaten]


@given(st.integers(2, 3).flatmap(tables))
def test_the_front_is_what_brute_force_finds(costs: npt.NDArray[Any]) -> None:
    assert non_dominated(costs).tolist() == brute_force(costs)


@given(st.integers(1, 4).flatmap(tables))
def test_hypervolume_is_optunas(costs: npt.NDArray[Any]) -> None:
    reference = np.full(costs.shape[1], 1.1)
    inside = costs[(costs < reference).all(axis=1)]
    assert hypervolume(costs, reference) == pytest.approx(compute_hypervolume(inside, reference) if len(inside) else 0)


def test_hypervolume_in_closed_form() -> None:
    assert hypervolume([[0.2, 0.5]], [1, 1]) == pytest.approx(0.8 * 0.5)
    assert hypervolume([[0.2, 0.5], [0.5, 0.2]], [1, 1]) == pytest.approx(0.4 + 0.4 - 0.25)
    assert hypervolume([[0, 0, 0.5], [0.5, 0.5, 0]], [1, 1, 1]) == pytest.approx(0.5 + 0.25 - 0.125)
    assert hypervolume([[1, 0], [0, 2]], [1, 1]) == hypervolume(np.empty((0, 2)), [1, 1]) == 0


@given(tables(3), tables(3))
def test_more_points_never_make_it_smaller(some: npt.NDArray[Any], more: npt.NDArray[Any]) -> None:
    goal = Goal(max_flops=1.2, max_seconds=1.3)
    together = np.concatenate([some, more])
    assert goal.hypervolume(together) >= goal.hypervolume(some) - 1e-12
    front = together[goal.front(together)]
    assert goal.hypervolume(front) == pytest.approx(goal.hypervolume(together))
    assert (front[:, 1] <= 1.2).all() and (front[:, 2] <= 1.3).all()


def test_hypervolume_is_the_mean_accuracy_over_budgets() -> None:
    points = np.array([[0.5, 0.2, 9.0], [0.9, 0.6, 9.0], [0.4, 0.7, 1.0], [0.99, 1.4, 1.0]])
    budgets = (np.arange(100_000) + 0.5) / 100_000
    best = [points[points[:, 1] <= b, 0].max(initial=0.0) for b in (0.1, 0.3, 0.8)]
    assert best == [0, 0.5, 0.9]
    mean = np.select([budgets < 0.2, budgets < 0.6], [0.0, 0.5], 0.9).mean()
    assert GOAL.hypervolume(points) == pytest.approx(mean, abs=1e-5)
    assert GOAL.front(points).tolist() == [True, True, False, False]  # the last costs more than the limit
    assert Goal(max_seconds=10).front(points).tolist() == [True, True, True, False]  # now quickness counts


def test_one_point_stands_for_all() -> None:
    assert GOAL.values([[0.5, 0.2, 9], [0.9, 0.6, 9]]) == (0.5, 0.2)  # 0.40 against 0.36
    assert Goal(2.0, 10.0).values([[0.5, 0.2, 9], [0.9, 0.6, 9]]) == (0.9, 0.6, 9)
    assert GOAL.values(np.empty((0, 3))) == (0, 1)
    assert Goal(1.0, 10.0).values([[0.9, 0.5, 20], [0.95, 0.6, 30]]) == (0, 1, 10)  # no point is within the limits


@pytest.mark.parametrize("seed", range(3))
def test_an_epoch_offers_what_fit_policy_chooses_at_each_budget(seed: int) -> None:
    record = make_record(seed=seed)
    points = operating_points(record, GOAL)
    for column in ("threshold", "accuracy", "flops_fraction"):
        assert len(points[column]) == len(points)
    assert points["flops_fraction"].is_monotonic_increasing and points["accuracy"].is_monotonic_increasing
    for budget in GOAL.budgets[GOAL.budgets >= record.flops_fraction[0]]:
        wanted = summarise(record, fit_policy(record, flops=budget).exits(record))
        best = points[points["flops_fraction"] <= budget + 1e-9].iloc[-1]
        assert (best["accuracy"], best["flops_fraction"]) == pytest.approx(
            (wanted["accuracy"], wanted["flops_fraction"])
        )
    for row in points.to_dict("records"):
        found = summarise(record, fit_policy(record, threshold=row["threshold"]).exits(record))
        assert (found["accuracy"], found["flops_fraction"]) == pytest.approx((row["accuracy"], row["flops_fraction"]))


def test_the_cheapest_setting_counts_and_dearer_ones_than_the_limit_do_not() -> None:
    record = make_record()  # exit 1 costs 0.3
    assert operating_points(record, GOAL)["flops_fraction"].iloc[0] == pytest.approx(0.3)
    assert operating_points(record, Goal(0.31))["flops_fraction"].max() <= 0.31
    assert operating_points(record, Goal(0.29)).empty
    assert operating_points(make_record(n_exits=1), GOAL)["flops_fraction"].tolist() == pytest.approx([0.3])


def test_limits_are_read_and_checked() -> None:
    assert Goal.from_dict({"max_seconds": 60}) == Goal(1.0, 60)
    assert Goal.from_dict(Goal(0.8).to_dict()) == Goal(0.8)
    assert GOAL.reference.tolist() == [0, 1] and Goal(max_seconds=60).reference.tolist() == [0, 1, 60]


def test_points_of_some_epochs() -> None:
    one = trial(0, [0.5, 0.6, 0.7])
    assert one.last == 3 and one.points()[:, 0].tolist() == [0.5, 0.6, 0.7]
    assert one.points(2).tolist() == one.points(2, 3).tolist() and one.points(1, 1)[:, 0].tolist() == [0.5]
    assert LearningCurve(0, {}, 4).last == 0 and LearningCurve(0, {}, 4).points().shape == (0, 3)
    assert len(all_points([one, trial(1, [0.1])])) == 4 and all_points([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: Goal(max_flops=0), "max_flops=0.0 must be a finite number above 0"),
        (
            lambda: Goal.from_dict({"max_seconds": "x"}),
            "goal.max_seconds='x' has the wrong type; expected float or null",
        ),
        (lambda: Goal.from_dict({"max_flop": 1}), "unknown key in goal 'max_flop'. Did you mean 'max_flops'"),
        (lambda: Goal.from_dict([]), "goal must be a JSON object, not list"),
    ],
)
def test_bad_limits_are_named(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
