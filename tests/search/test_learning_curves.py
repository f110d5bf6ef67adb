"""The operating points of a trial, epoch by epoch."""

from __future__ import annotations

from search_settings import trial

from dmpo_explore.search.goal import LearningCurve, all_points


def test_points_of_some_epochs() -> None:
    one = trial(0, [0.5, 0.6, 0.7])
    assert one.last == 3 and one.points()[:, 0].tolist() == [0.5, 0.6, 0.7]
    assert one.points(2).tolist() == one.points(2, 3).tolist() and one.points(1, 1)[:, 0].tolist() == [0.5]
    assert LearningCurve(0, {}, 4).last == 0 and LearningCurve(0, {}, 4).points().shape == (0, 3)
    assert len(all_points([one, trial(1, [0.1])])) == 4 and all_points([]).shape == (0, 3)
