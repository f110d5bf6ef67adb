"""Queries: the bound of the convergence delta and the doubling of steps."""

from __future__ import annotations

from dmpo_explore.attribution.exit_model import refine, within_bound


def test_bound() -> None:
    assert within_bound(0.049, 0.1)  # of one logit at least
    assert within_bound(-0.49, 10)
    assert not within_bound(0.51, -10)


def test_steps_double_until_the_delta_is_small_and_the_best_attempt_counts() -> None:
    deltas, asked = {50: 0.9, 100: -0.2, 200: 0.3}, list[int]()

    def integral(steps: int) -> tuple[str, float]:
        asked.append(steps)
        return f"{steps} steps", deltas[steps]

    assert refine(integral, 50, difference=0.0) == ("100 steps", -0.2, 100)
    assert refine(integral, 50, difference=10.0) == ("100 steps", -0.2, 100)
    assert asked == [50, 100, 200, 50, 100]
