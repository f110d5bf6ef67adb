"""A policy beside its rivals: equal compute, and intervals of the same images."""

from __future__ import annotations

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.course.rivals import beside_rivals, points_ahead, random_mixture

TEST = dx.load_run("fashion").record("test")


def test_the_random_mixture_is_what_drawing_images_gives() -> None:
    name, (expected, share) = random_mixture(TEST, 0.25)
    part = (0.25 - TEST.flops_fraction[0]) / (TEST.flops_fraction[1] - TEST.flops_fraction[0])
    assert (name, share) == (f"random: {round(100 * part)} % to exit 2", 0.25)
    deeper = np.random.default_rng(0).random((200, TEST.n_images)) < part
    drawn = np.where(deeper, TEST.correct[:, 1], TEST.correct[:, 0]).mean()
    assert expected.mean() == pytest.approx(drawn, abs=5e-4)
    assert TEST.flops_fraction[deeper.astype(int)].mean() == pytest.approx(0.25, abs=5e-4)


@pytest.mark.parametrize("share", [0.05, 1.5])
def test_compute_outside_the_exits_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"share={share:.3f} must lie between the exits' compute, 0.181 and 1.028"):
        random_mixture(TEST, share)


def test_all_at_one_exit_is_a_mixture_too() -> None:
    name, (expected, _) = random_mixture(TEST, float(TEST.flops_fraction[0]))
    assert name == "random: 0 % to exit 2" and np.array_equal(expected, TEST.correct[:, 0])


def test_points_ahead_are_paired_for_decisions_and_for_probabilities() -> None:
    first, last = TEST.correct[:, 0], TEST.correct[:, -1]
    as_numbers = points_ahead(last, first.astype(float))
    assert points_ahead(last, first).split()[0] == as_numbers.split()[0] == "+2.15"
    ends = [
        np.array(text.split("[")[1].rstrip("]").split(", "), float) for text in (points_ahead(last, first), as_numbers)
    ]
    assert np.allclose(*ends, atol=0.06)


def test_the_table_has_a_row_for_each_with_the_policy_first() -> None:
    policy = dx.apply(dx.fit_policy(dx.load_run("fashion").record("calibration"), flops=0.3), TEST)
    used = float(policy.flops_fraction.mean())
    rivals = {"all at exit 2": (TEST.correct[:, 1], TEST.flops_fraction[1])} | dict([random_mixture(TEST, used)])
    table = beside_rivals("policy", (policy.correct, used), rivals)
    assert list(table.index) == ["policy", "all at exit 2", "random: 36 % to exit 2"]
    assert table.loc["policy", "policy: points ahead"] == ""
    assert table["compute"].iloc[2] == pytest.approx(used) and table["accuracy"].is_monotonic_decreasing
