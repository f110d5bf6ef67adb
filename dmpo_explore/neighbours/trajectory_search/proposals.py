"""Propose the next trial's settings from the learning curves of all trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...search.goal import Goal
from ...search.learning_curves import LearningCurve
from ...search.space import Params, SearchSpace
from ...search.trial_storage import distributions, identity, latest, read_curves
from ...utils.lazy import extra_imports
from .expected_gain import best_candidate

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
    candidates += [_near(space, parent.params, rng) for parent in _parents(known, space.goal, rng)]
    planned = [space.epochs(params) for params in candidates]
    before, ahead = (np.stack([space.encode(p) for p in group]) for group in ([t.params for t in known], candidates))
    return candidates[best_candidate(known, before, ahead, planned, space.goal, int(rng.integers(2**31)))]


def _parents(known: Sequence[LearningCurve], goal: Goal, rng: np.random.Generator) -> list[LearningCurve]:
    """`NEAR` trials with a point on the front, drawn with replacement."""
    sizes = [len(t.points()) for t in known]
    mask = goal.front(np.concatenate([t.points() for t in known]))
    best = [t for t, part in zip(known, np.split(mask, np.cumsum(sizes)[:-1]), strict=True) if part.any()]
    return [best[i] for i in rng.integers(len(best), size=NEAR)] if best else []


def _near(space: SearchSpace, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
    """``params`` with one or two settings drawn again."""
    changed = rng.choice(list(space.domains), size=min(int(rng.integers(1, 3)), len(space.domains)), replace=False)
    return dict(params) | {key: space.domains[key].draw(rng) for key in changed.tolist()}
