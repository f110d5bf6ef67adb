"""Surrogate: a Gaussian process over (settings, epoch) that predicts the learning curves of untried settings.

In: encoded settings (N, F), epochs (N,), answers (N, A). Out: means and standard deviations (M, A) at other points.
That settings and epochs share one process is the idea of arXiv 2405.15303; kernel and fitting are ours: one kernel for
all answers, half of it common to all settings (the usual course of training), half of it falling with their distance;
its lengths and noise are those of a small grid that make the answers most likely. Arrays only: a kernel of
scikit-learn's sees all columns alike, so that settings and epoch could not have one each.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist

from ...utils.typing import Array

LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of settings; two settings that differ in one choice are 1 apart
MEMORIES = (1.0, 3.0)  # of epochs, in units of their logarithm
NOISES = (1e-3, 1e-2, 1e-1)  # variance, as a share of the answers'


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A fitted process; see `fit_surrogate`."""

    inputs: Array
    logarithms: Array
    centre: Array
    scale: Array
    length: float
    memory: float
    factor: Array
    weights: Array

    def predict(self, inputs: Array, epochs: npt.ArrayLike) -> tuple[Array, Array]:
        """(M, A) means and (M, A) standard deviations, noise left out, for settings (M, F) at epochs (M,)."""
        across = _kernel(inputs, np.log(epochs), self.inputs, self.logarithms, self.length, self.memory)  # (M, N)
        explained = solve_triangular(self.factor, across.T, lower=True)
        spread = np.sqrt(np.maximum(1.0 - (explained**2).sum(axis=0), 0.0))
        return self.centre + across @ self.weights * self.scale, spread[:, None] * self.scale


def fit_surrogate(inputs: Array, epochs: npt.ArrayLike, answers: Array) -> Surrogate:
    """The process that makes ``answers`` (N, A), centred and scaled one by one, most likely."""
    logarithms, centre, spread = np.log(np.asarray(epochs, np.float64)), answers.mean(axis=0), answers.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 0.0)
    targets = (answers - centre) / np.where(scale > 0, scale, 1.0)
    varying = max(int((scale > 0).sum()), 1)
    best: tuple[float, Surrogate] | None = None
    for length, memory in itertools.product(LENGTHS, MEMORIES):
        kernel = _kernel(inputs, logarithms, inputs, logarithms, length, memory)
        for noise in NOISES:
            factor = cholesky(kernel + noise * np.eye(len(inputs)), lower=True)
            half = solve_triangular(factor, targets, lower=True)
            likelihood = -0.5 * float((half**2).sum()) / varying - float(np.log(np.diag(factor)).sum())
            if best is None or likelihood > best[0]:
                weights = solve_triangular(factor.T, half)
                best = likelihood, Surrogate(inputs, logarithms, centre, scale, length, memory, factor, weights)
    assert best is not None
    return best[1]


def _kernel(a: Array, a_times: Array, b: Array, b_times: Array, length: float, memory: float) -> Array:
    """(len(a), len(b)) correlations, 1 on the diagonal."""
    near = np.exp(-cdist(a, b, "sqeuclidean") / (2 * length**2))
    return np.asarray((0.5 + 0.5 * near) * np.exp(-np.abs(a_times[:, None] - b_times) / memory))
