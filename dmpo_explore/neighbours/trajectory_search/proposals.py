"""The next trial's settings, proposed from the learning curves of all trials by a Gaussian process.

In: encoded settings (N, F), epochs (N,), answers (N, A). Out: means and standard deviations (M, A) at other points.
That settings and epochs share one process is the idea of arXiv 2405.15303; kernel and fitting are ours: one kernel for
all answers, half of it common to all settings (the usual course of training), half of it falling with their distance;
its lengths and noise are those of a small grid that make the answers most likely. Arrays only: a kernel of
scikit-learn's sees all columns alike, so that settings and epoch could not have one each.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from ...search.goal import Goal, LearningCurve, all_points
from ...search.space import Params, SearchSpace
from ...search.study import distributions, identity, latest, read_curves
from ...utils.lazy import extra_imports
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


# Expected gain of a trial on the front: early stopping of a trial, and the choice of the next trial's settings.
#
# In: `LearningCurve`s, the operating points of every epoch of every trial. Out: whether a running trial can still
# extend the front (`can_extend`), and which of some candidates is expected to extend it most (`best_candidate`).
#
# From arXiv 2405.15303 (Wang, Fan and Ng, UAI 2025): the epoch is a decision of its own, so every epoch of a trial is a
# candidate; a setting is rated by the hypervolume that its whole predicted trajectory would add; a trial is stopped
# when its predicted trajectory adds none. Ours: that an epoch is a curve of operating points, so that the expected
# improvement is taken budget by budget; and the stopping rule, from error ratios of past trials in place of the process
# (above). We have read the paper's abstract and summaries of it, not its code.

ENOUGH = 8  # learning curves that must be longer before a trial is stopped by them
MOST = 1500  # epochs that the process is fitted to, the latest
ROOT = np.sqrt(2 * np.pi)


def attained(points: Array, goal: Goal) -> Array:
    """(G, H): the best accuracy of a point within each of ``goal.budgets`` and ``goal.times``; 0 without one."""
    affordable = points[:, 1, None] <= goal.budgets * (1 + 1e-12)  # (P, G)
    in_time = points[:, 2, None] <= goal.times
    inside = affordable[:, :, None] & in_time[:, None, :]
    return np.asarray(np.where(inside, points[:, 0, None, None], 0.0).max(axis=0, initial=0.0))


def can_extend(now: LearningCurve, others: Sequence[LearningCurve], goal: Goal) -> bool:
    """Whether later epochs of ``now`` may still add to the front of all trials.

    At every budget its error so far is multiplied by the smallest ratio (error later / error so far) of all other
    trials, from the same share of their training on. If it then stays at or below the front everywhere, it cannot:
    it would have to improve more than any of them did. This is a heuristic without a probability: budgets are compared
    one by one, and running or stopped trials count with their epochs so far.
    True while fewer than `ENOUGH` trials have gone further.

    Example:
        Eight trials went from 0.70 to 0.75 in their second epoch; one that begins at 0.40 will hardly reach that:

        >>> import numpy as np
        >>> from dmpo_explore.search import Goal, LearningCurve
        >>> first, second = np.array([[0.70, 0.5, 10.0]]), np.array([[0.75, 0.5, 20.0]])
        >>> others = [LearningCurve(trial, {}, planned=2, epochs={1: first, 2: second}) for trial in range(8)]
        >>> low, high = ({1: np.array([[accuracy, 0.5, 10.0]])} for accuracy in (0.40, 0.72))
        >>> [can_extend(LearningCurve(8, {}, 2, epochs), others, Goal()) for epochs in (low, high)]
        [False, True]
    """
    if now.last >= now.planned:
        return False
    ratios = [r for other in others if other.trial != now.trial if (r := _ratio(other, now, goal)) is not None]
    if len(ratios) < ENOUGH:
        return True
    seen = np.array(ratios)  # (trials, G), NaN where a trial cannot meet the budget
    known = (~np.isnan(seen)).any(axis=0)
    lowest = np.zeros(seen.shape[1])  # unknown: anything may come
    lowest[known] = np.nanmin(seen[:, known], axis=0)
    own = _best(now.points(), goal)
    hoped = np.where(own > 0, 1 - (1 - own) * lowest, 0.0)
    seconds = now.points()[:, 2].max(initial=0.0) * (now.last + 1) / max(now.last, 1)
    front = attained(np.concatenate([all_points(others), now.points()]), goal)
    return bool((hoped[:, None] > front + 1e-9)[:, goal.times >= seconds].any())


def _best(points: Array, goal: Goal) -> Array:
    """(G,): the best accuracy at each budget, for any training time."""
    return attained(points, Goal(goal.max_flops))[:, 0]


def _ratio(other: LearningCurve, now: LearningCurve, goal: Goal) -> Array | None:
    """(G,): error of ``other`` as far as it went, over its error at the same share of training as ``now``."""
    epoch = max(1, now.last * other.planned // now.planned)
    if other.last <= epoch:
        return None
    before, later = (_best(other.points(*span), goal) for span in ((1, epoch), (1, other.last)))
    error = np.maximum(1 - before, 1e-3)  # an epoch without an error is as good as one in a thousand
    return np.where(before > 0, np.maximum(1 - later, 0.0) / error, np.nan)


def best_candidate(
    curves: Sequence[LearningCurve], known: Array, candidates: Array, planned: npt.ArrayLike, goal: Goal, seed: int
) -> int:
    """Index of the candidate whose predicted learning curve is expected to add most hypervolume per epoch.

    A Gaussian process predicts from (settings, epoch) the best accuracy at every budget, and the seconds. At every
    budget a candidate counts with the largest expected improvement on the front among its epochs (those that are
    expected to be in time). If no candidate is expected to add hypervolume, one is drawn.

    Args:
        known: (trials, F) encoded settings of ``curves``. candidates: (C, F). planned: (C,) epochs.
    """
    rows = [(i, epoch, p) for i, t in enumerate(curves) for epoch, p in _followed(t)][-MOST:]
    # (rows, G+1): the best accuracy at each budget, then the logarithm of the seconds
    answers = np.array([np.append(_best(p, goal), np.log1p(p[:, 2].max(initial=0.0))) for _, _, p in rows])
    process = fit_surrogate(known[[i for i, _, _ in rows]], [epoch for _, epoch, _ in rows], answers)
    lengths = np.asarray(planned, np.int64)
    longest = int(lengths.max())
    epochs = np.arange(1, longest + 1)
    mean, spread = process.predict(np.repeat(candidates, longest, axis=0), np.tile(epochs, len(candidates)))
    shape = (len(candidates), longest, -1)
    gain = _gain(mean.reshape(shape), spread.reshape(shape), epochs <= lengths[:, None], curves, goal) / lengths
    if gain.max() <= 1e-12:
        return int(np.random.default_rng(seed).integers(len(candidates)))
    return int(np.argmax(gain))


def _followed(curve: LearningCurve) -> list[tuple[int, Array]]:
    """Its epochs and their points; all points of an unfinished trial count as those of its last epoch.

    Otherwise a stopped trial's later epochs would stay unknown, and its settings would be proposed repeatedly.
    """
    epochs = sorted(curve.epochs.items())
    return epochs if curve.last >= curve.planned else [*epochs, (curve.planned, curve.points())]


def _gain(mean: Array, spread: Array, runs: Array, curves: Sequence[LearningCurve], goal: Goal) -> Array:
    """(C,): expected improvement on the front by curves (C, E, G+1), a mean over its cells (G, H)."""
    front = attained(all_points(curves), goal)
    accuracy, deviation, seconds = mean[..., :-1], spread[..., :-1], np.expm1(mean[..., -1])
    total = np.zeros(len(mean))
    for h, limit in enumerate(goal.times):
        counts = runs & (seconds <= limit)
        expected = expected_improvement(accuracy, deviation, front[:, h])
        total += np.where(counts[..., None], expected, 0.0).max(axis=1).mean(axis=1)
    return total / len(goal.times)


def expected_improvement(mean: Array, spread: Array, best: Array) -> Array:
    """Expected improvement E[max(x − best, 0)] of a normally distributed x."""
    above = mean - best
    z = above / np.maximum(spread, 1e-12)
    return np.asarray(
        np.where(spread > 1e-12, above * ndtr(z) + spread * np.exp(-0.5 * z**2) / ROOT, above.clip(min=0))
    )


# Propose the next trial's settings from the learning curves of all trials.

with extra_imports("search", "search"):
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

STARTUP = 8  # trials that are drawn from all of the space before any is proposed
DRAWN, NEAR = 192, 64  # candidates of a proposal: from all of the space, and close to settings on the front


class LearningCurveSampler(BaseSampler):
    """Sampler of the settings whose predicted learning curve is expected to extend the front most, per epoch.

    The first `STARTUP` trials are drawn. Later ones are the best of `DRAWN` settings from all of the space and of
    `NEAR` that differ in one or two from settings on the front (`best_candidate`).

    Args:
        seed: of the proposals, which also depend on the trials before; None: they differ between workers.
    """

    def __init__(self, space: SearchSpace, seed: int | None = None) -> None:
        self.space = space
        self.seed = seed if seed is not None else int(np.random.default_rng().integers(2**31))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All of the space: settings are proposed together."""
        return distributions(self.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A trial's settings."""
        rng = self._rng(study, trial)
        known = [t for t in read_curves(study.get_trials(deepcopy=False)) if t.trial != identity(trial)]
        if len(known) < STARTUP:
            return self.space.draw(rng)
        return propose(self.space, known, rng)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One setting that a trial lacks."""
        return self.space.domains[param_name].draw(self._rng(study, trial))

    def _rng(self, study: optuna.Study, trial: FrozenTrial) -> np.random.Generator:
        """Of the trial's rank: as if neither it nor those before it had been interrupted, which takes numbers."""
        before = [number for number in latest(study.get_trials(deepcopy=False)) if number < identity(trial)]
        return np.random.default_rng((self.seed, len(before)))


def propose(space: SearchSpace, known: Sequence[LearningCurve], rng: np.random.Generator) -> Params:
    """The candidate with the largest expected gain, given the trials so far."""
    candidates = [space.draw(rng) for _ in range(DRAWN)]
    for parent in _parents(known, space.goal, rng):  # one or two of its settings are drawn again
        changed = rng.choice(list(space.domains), size=min(int(rng.integers(1, 3)), len(space.domains)), replace=False)
        candidates.append(dict(parent.params) | {key: space.domains[key].draw(rng) for key in changed.tolist()})
    planned = [space.epochs(params) for params in candidates]
    before, ahead = (np.stack([space.encode(p) for p in group]) for group in ([t.params for t in known], candidates))
    return candidates[best_candidate(known, before, ahead, planned, space.goal, int(rng.integers(2**31)))]


def _parents(known: Sequence[LearningCurve], goal: Goal, rng: np.random.Generator) -> list[LearningCurve]:
    """`NEAR` trials with a point on the front, drawn with replacement."""
    sizes = [len(t.points()) for t in known]
    mask = goal.front(np.concatenate([t.points() for t in known]))
    best = [t for t, part in zip(known, np.split(mask, np.cumsum(sizes)[:-1]), strict=True) if part.any()]
    return [best[i] for i in rng.integers(len(best), size=NEAR)] if best else []
