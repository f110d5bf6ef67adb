"""Expected gain of a trial on the front: early stopping of a trial, and the choice of the next trial's settings.

In: `LearningCurve`s, the operating points of every epoch of every trial. Out: whether a running trial can still extend
the front (`can_extend`), and which of some candidates is expected to extend it most (`best_candidate`).

From arXiv 2405.15303 (Wang, Fan and Ng, UAI 2025): the epoch is a decision of its own, so every epoch of a trial is a
candidate; a setting is rated by the hypervolume that its whole predicted trajectory would add; a trial is stopped
when its predicted trajectory adds none. Ours: that an epoch is a curve of operating points, so that the expected
improvement is taken budget by budget; and the stopping rule, from error ratios of past trials in place of the process
(`surrogate`). We have read the paper's abstract and summaries of it, not its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from ...search.goal import Goal
from ...search.learning_curves import LearningCurve, all_points
from ...utils.typing import Array
from .surrogate import fit_surrogate

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
    answers = np.array([_answer(points, goal) for _, _, points in rows])
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


def _answer(points: Array, goal: Goal) -> Array:
    """(G+1,): the best accuracy at each budget, then the logarithm of the seconds."""
    return np.append(_best(points, goal), np.log1p(points[:, 2].max(initial=0.0)))


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
    """Expected improvement E[max(x − best, 0)] of a normally distributed x.

    Example:
        >>> expected_improvement(np.array([0.8]), np.array([0.0]), np.array([0.7])).round(3).tolist()
        [0.1]
    """
    above = mean - best
    z = above / np.maximum(spread, 1e-12)
    return np.asarray(
        np.where(spread > 1e-12, above * ndtr(z) + spread * np.exp(-0.5 * z**2) / ROOT, above.clip(min=0))
    )
