"""The process against the textbook formula, and on functions that it should learn."""

from __future__ import annotations

import numpy as np
import pytest

from dmpo_explore.neighbours.trajectory_search.proposals import LENGTHS, MEMORIES, NOISES, _kernel, fit_surrogate


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
