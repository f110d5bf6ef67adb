"""Policies that learn from a held-out record: a gate (logistic regression) per exit, and budgeted batch classification.

In: one exit's scores and those of the exit before, numpy or torch. Out: the compared value, and the learned
numbers. The gate follows JEI-DNN (Regol et al. 2024): a logistic regression per exit on detached scores with a
cost-aware target. Ours: the target is 1 where this exit is correct or no later exit is (with 0-1 loss, the weight
of compute cancels out of JEI-DNN's target as long as reaching the last exit costs less than an error), and the
features. Budgeted batch classification is MSDNet's (Huang et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from ..records.record import ExitRecord
from ..utils.texts import short
from ..utils.typing import Bools, Ints
from .base import Policy, State
from .ranking import ScorePolicy, floor_shares, share_thresholds
from .rules import ConfidencePolicy, repeats, zeros

FEATURES = ("log-odds", "entropy", "margin", "repeats", "log-odds before", "margin before")
CLIP = 1e-3  # of confidence before its log-odds, so that float noise near 1 stays small
SHARES = np.linspace(0, 1, 51)  # settings of `BudgetedPolicy`
STRENGTH = 1.0  # inverse of the L2 penalty on standardised features


def log_odds(confidence: Any) -> Any:
    """ln(c / (1 − c)) of a confidence kept `CLIP` away from 0 and 1; shape, type and library as given."""
    xp = array_namespace(confidence)
    c = xp.clip(confidence, CLIP, 1 - CLIP)
    return xp.log(c / (1 - c))


def gate_probability(weights: tuple[float, ...], features: tuple[Any, ...]) -> Any:
    """Logistic regression: features, arrays (b,), and one weight each with the intercept last → probability (b,)."""
    xp = array_namespace(features[0])
    total = features[0] * weights[0]
    for weight, feature in zip(weights[1:-1], features[1:], strict=True):
        total = total + feature * weight
    return 1 / (1 + xp.exp(-(total + weights[-1])))


def learn_gate(features: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, ...]:
    """Weights and intercept of one exit's logistic regression.

    Args:
        features: (B, F). target: (B,) bool, whether exiting here loses no accuracy.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = np.asarray(features, np.float64), np.asarray(target, bool)
    if y.all() or not y.any():
        return (*([0.0] * x.shape[1]), 20.0 if y.all() else -20.0)  # one class only: no regression
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread < 1e-9] = 1.0
    fitted = LogisticRegression(C=STRENGTH, max_iter=1000).fit((x - mean) / spread, y)
    slopes = fitted.coef_[0] / spread
    return tuple(float(f"{w:.6g}") for w in (*slopes, fitted.intercept_[0] - slopes @ mean))


def gate_target(record: ExitRecord) -> Bools:
    """(B, K−1): correct at this exit, or not correct at any later exit either."""
    right = record.correct
    later = np.maximum.accumulate(right[:, ::-1], axis=1)[:, ::-1][:, 1:]  # (B, K−1): some later exit is correct
    return np.asarray(right[:, :-1] | ~later)


class GatePolicy(ScorePolicy):
    """Exit where a logistic regression gives a probability ≥ threshold that no later exit is better.

    ``learned``: one row per exit but the last, weights of `FEATURES` and the intercept.

    Example:
        >>> import dmpo_explore as dx
        >>> val = dx.load_run("fashion").record("val")
        >>> policy = GatePolicy((0.9,)).learn(val)
        >>> len(policy.learned), len(policy.learned[0]) == len(FEATURES) + 1
        (5, True)
        >>> policy.exits(val).shape
        (5000,)
    """

    name = "gate"
    reads = ("prediction", "confidence", "entropy", "margin")
    rule = "Exit where the learned probability that no later exit is better is at least **{}**, else at the last."
    summary = "a logistic regression per exit, on its scores and those of the exit before"
    compares = "probability that no later exit is better"
    learns = True

    def start(self, n: int, like: Any) -> State:
        """Repetitions and prediction of the exit before, its log-odds and margin, (n,) each."""
        return (zeros(n, like), zeros(n, like), zeros(n, like, "float32"), zeros(n, like, "float32"))

    def features(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[tuple[Any, ...], State]:
        """`FEATURES` of b images, (b,) each, and the new state."""
        odds, before, margin_before = log_odds(scores["confidence"]), state[2], state[3]
        count = repeats(exit, scores["prediction"], state[:2])
        repeated = array_namespace(odds).astype(count, odds.dtype)
        seen = (odds, scores["entropy"], scores["margin"], repeated, before, margin_before)
        return seen, (count, scores["prediction"], odds, scores["margin"])

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.value`."""
        features, state = self.features(exit, scores, state)
        if exit >= len(self.learned):  # not learned (threshold_all, threshold_none), or the last exit
            return 0 * features[0] + 0.5, state
        return gate_probability(self.learned[exit], features), state

    def _learn(self, record: ExitRecord) -> tuple[tuple[float, ...], ...]:
        columns, target = self.columns(record), gate_target(record)
        state, rows = self.start(record.n_images, record.labels), []
        for exit in range(record.n_exits - 1):
            seen = {name: column[:, exit] for name, column in columns.items()}
            features, state = self.features(exit, seen, state)
            rows.append(learn_gate(np.stack(features, axis=1), target[:, exit]))
        return tuple(rows)

    def _check_learned(self, n_exits: int) -> None:
        if len(self.learned) != n_exits - 1 or any(len(row) != 7 for row in self.learned):
            raise ValueError(_unlearned(self.name, n_exits))


class BudgetedPolicy(Policy):
    """Budgeted batch classification (MSDNet): a fixed share of the images continues at every exit, the least confident.

    ``thresholds``: the share that continues, one for all exits (then geometrically fewer reach each) or one per exit.
    ``learned``: the confidences with these shares on the record it is fitted on. For one share, rows of a share and K−1
    confidences, rising in the share, between which confidences are interpolated; for K−1 > 1 shares, one row of K−1
    confidences, which have no single share to move. Ours: shares are not normalised over the exits, the last takes the
    rest.

    Example:
        >>> import dmpo_explore as dx
        >>> val = dx.load_run("demo").record("val")
        >>> policy = replace(BudgetedPolicy((0.0,)).learn(val), thresholds=(0.5,))
        >>> round(float((policy.exits(val) == 0).mean()), 2)
        0.5
    """

    name = "budgeted"
    reads = ("confidence",)
    rule = (
        "Exit unless among the least confident **{}** (a share) of the images that reach this exit, else at the last."
    )
    summary = "confidence, with a threshold per exit at which a fixed share of the images continues"
    compares = "confidence"
    learns = True
    holds = True
    threshold_none = 1.0

    def _clean(self, threshold: Any) -> float:
        number = isinstance(threshold, int | float | np.floating) and not isinstance(threshold, bool)
        if not number or not 0 <= threshold <= 1:
            raise ValueError(f"threshold={short(threshold)} of policy 'budgeted' must be a share from 0 to 1")
        return float(str(np.float32(threshold)))

    def level(self, exit: int) -> float:
        """The confidence at which images exit at ``exit`` (0-based)."""
        share = self.threshold(exit)
        if share == self.threshold_all or exit >= self._levels() > 0:
            return ConfidencePolicy.threshold_all
        if share == self.threshold_none:
            return ConfidencePolicy.threshold_none
        if len(self.thresholds) > 1:
            return self.learned[0][exit]
        shares, levels = ([row[i] for row in self.learned] for i in (0, exit + 1))
        return float(np.interp(share, shares, levels))

    def _levels(self) -> int:
        return len(self.learned[0]) - (len(self.thresholds) == 1) if self.learned else 0

    @property
    def sweeps(self) -> bool:
        """See `Policy.sweeps`; not with a share per exit."""
        return len(self.learned) != 1

    def counts(self, record: ExitRecord, thresholds: Sequence[float]) -> Ints:
        """See `Policy.counts`; ValueError with a share per exit."""
        if not self.sweeps:
            raise ValueError(
                f"policy {self.name!r} was fitted with a share for every exit, so it has no single share to move; fit "
                "it to a budget, or apply it as it is"
            )
        return super().counts(record, thresholds)

    @classmethod
    def settings(cls, n_exits: int) -> Sequence[float] | None:
        """See `Policy.settings`: `SHARES`."""
        return [float(share) for share in SHARES] if n_exits > 1 else [cls.threshold_all]

    @classmethod
    def grid(cls, n_exits: int, n_classes: int) -> list[float]:
        """See `Policy.grid`: `SHARES`."""
        return [float(share) for share in SHARES[::-1]]

    def with_thresholds(self, record: ExitRecord, thresholds: Sequence[float]) -> Policy:
        """See `Policy.with_thresholds`; a share per exit has its own levels on ``record``, not those of one share."""
        policy = super().with_thresholds(record, thresholds)
        if len(thresholds) != record.n_exits - 1 or len(thresholds) == 1:
            return policy
        row = share_thresholds(record, self._ranks(), lambda k, staying: round(staying * (1 - thresholds[k])))
        return replace(policy, learned=(tuple(row),))

    def with_shares(self, record: ExitRecord, shares: Sequence[float]) -> Policy:
        """See `Policy.with_shares`."""
        levels = share_thresholds(record, self._ranks(), floor_shares(record, shares))
        here = 1 - np.cumsum([0.0, *shares[:-1]])
        going = [min(1.0, max(0.0, 1 - s / h)) if h > 1e-9 else 1.0 for s, h in zip(shares[:-1], here, strict=False)]
        if len(going) > 1:
            return replace(self, thresholds=tuple(going), learned=(tuple(levels),))
        own = self._clean(going[0])  # one more row, so that the share can still be moved
        rows = {row[0]: row for row in self.learned} | {own: (own, *levels)}
        return replace(self, thresholds=(own,), learned=tuple(sorted(rows.values())))

    def _ranks(self) -> ConfidencePolicy:
        return ConfidencePolicy((0.0,), temperatures=self.temperatures)

    def _learn(self, record: ExitRecord) -> tuple[tuple[float, ...], ...]:
        def levels(share: float) -> list[float]:
            return share_thresholds(record, self._ranks(), lambda _, staying: round(staying * (1 - share)))

        return tuple((share, *levels(share)) for share in map(float, SHARES))

    def _check_learned(self, n_exits: int) -> None:
        single = len(self.thresholds) == 1
        expected = n_exits if single else n_exits - 1
        if {len(row) for row in self.learned} != {expected} or (not single and len(self.learned) != 1):
            raise ValueError(_unlearned(self.name, n_exits))


def _unlearned(name: str, n_exits: int) -> str:
    return (
        f"policy {name!r} has not been fitted for {n_exits} exits; make it with fit_policy on a calibration or val "
        "record (a threshold alone is not enough)"
    )
