"""Policy: the rule that decides at which exit an image exits; its candidate thresholds, and the exits that each makes.

Candidates. In: an `ExitRecord`, exits or values to compare. Out: `Candidates`, counts (K, 2) or (G, K, 2). Vectorised
over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..records.record import MAKE_LOGITS, ExitRecord
from ..records.scores import scores_of_record
from ..utils.files import write_json
from ..utils.texts import short
from ..utils.typing import Array, Ints, at_exits


@dataclass(frozen=True, eq=False)
class Candidates:
    """G single thresholds with their exit counts on a record.

    Args:
        thresholds: (G,). exit_counts: (G, K) int64, images that exit at each exit. correct: (G,) int64.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("val")
        >>> found = dx.POLICIES["fixed"]((1,)).candidates(record)
        >>> found.thresholds.tolist(), found.exit_counts[0].tolist()
        ([1, 2, 3, 4, 5, 6], [5000, 0, 0, 0, 0, 0])
    """

    thresholds: Array
    exit_counts: Array
    correct: Array


def count_answers(record: ExitRecord, exits: Array) -> Ints:
    """(K, 2): images that exit at each exit, correct and incorrect, when they exit at ``exits`` (B,)."""
    incorrect = at_exits(record.prediction, exits) != record.labels
    return np.bincount(2 * exits + incorrect, minlength=2 * record.n_exits).reshape(-1, 2)


def count_reached(values: Array, correct: Array, levels: Array) -> Ints:
    """(G, K, 2): images that exit correct and incorrect at every exit, for each level.

    Args:
        values: (B, K−1); an image exits at the first exit whose value is at least the level, else at the last.
        correct: (B, K) bool. levels: (G,) the same level at all exits.
    """
    best = np.maximum.accumulate(values, axis=1)  # exited by exit k if best[:, k] ≥ level
    n_exits = correct.shape[1]
    counts = np.zeros((len(levels), n_exits, 2), np.int64)
    for k in range(n_exits):
        for side, mine in enumerate((correct[:, k], ~correct[:, k])):
            counts[:, k, side] = _exited(best, k, mine, levels) - _exited(best, k - 1, mine, levels)
    return counts


def _exited(best: Array, exit: int, mine: Array, levels: Array) -> Array:
    """How many of ``mine`` have exited by ``exit`` at each level; none before the first exit, all by the last."""
    if exit < 0:
        return np.zeros(len(levels), np.int64)
    if exit >= best.shape[1]:
        return np.full(len(levels), mine.sum())
    ranked = np.sort(best[mine, exit])
    return np.asarray(ranked.size - np.searchsorted(ranked, levels, side="left"))


# Policy: the rule that decides at which exit an image exits.
#
# In: one exit's scores (live engine) or an `ExitRecord` (simulation). Out: which images exit now, or the exit of every
# image. A new policy is one class with this interface and one entry of `catalogue.POLICIES`; see docs/extending.md.

State = tuple[Any, ...]
BLOCK = 65_536  # images whose scores of all exits stay in a processor's cache


class Comparison(NamedTuple):
    """What a policy compares for one image at one exit: the value, the threshold, and whether the image exits.

    Example:
        >>> Comparison(0.93, 0.9, True).exits
        True
    """

    value: float
    threshold: float
    exits: bool


@dataclass(frozen=True)
class Policy:
    """An exit policy: a frozen rule with thresholds that compares one value per exit with a threshold.

    Thresholds are kept as the shortest decimal of a float32 and compared in float32, so that numpy and torch, CPU and
    GPU decide alike. `ScorePolicy` and `CountPolicy` are the usual bases of a new policy.

    Args:
        thresholds: one for all exits, or one per exit but the last; at the last exit all images exit.
        fitted: JSON values that describe what it was fitted on; not part of comparisons.
        temperatures: K positive numbers by which each exit's logits are divided before they are scored, or none.
        learned: rows of numbers that a policy which ``learns`` has learned from a held-out record.

    Raises:
        ValueError: no threshold, or an invalid one.

    Example:
        >>> from dmpo_explore.policies import ConfidencePolicy
        >>> policy = ConfidencePolicy((0.9,))
        >>> policy.name, policy.thresholds, policy.format_value(0.9)
        ('confidence', (0.9,), '90.0%')
        >>> leave, _ = policy.decide(0, {"confidence": np.array([0.5, 0.95])}, policy.start(2, np.zeros(2)))
        >>> leave.tolist()
        [False, True]
    """

    thresholds: tuple[float, ...]
    fitted: dict[str, Any] = field(default_factory=dict, compare=False)
    temperatures: tuple[float, ...] = ()
    learned: tuple[tuple[float, ...], ...] = ()

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]  # scores that it needs, of `records.scores.SCORES`
    rule: ClassVar[str]  # one sentence, with {} for the threshold
    summary: ClassVar[str]  # what decides
    compares: ClassVar[str]  # the value that is compared with the threshold, in words
    unit: ClassVar[str] = "%"  # of that value: "%", "nats", or "" for a plain number
    falling: ClassVar[bool] = False  # images exit at values ≤ threshold, not ≥
    deployable: ClassVar[bool] = True  # False: it reads the labels and serves as a bound
    learns: ClassVar[bool] = False  # needs more from val than a threshold
    per_exit_thresholds: ClassVar[bool] = False  # `fit_policy` can fit a threshold of its own for every exit
    holds: ClassVar[bool] = False  # its thresholds can follow the images (`hold_budget`)
    threshold_all: ClassVar[float] = 0.0  # at which all images exit at exit 1
    threshold_none: ClassVar[float]  # at which no image exits early

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ValueError(f"policy {self.name!r} needs at least one threshold")
        object.__setattr__(self, "thresholds", tuple(self._clean(t) for t in self.thresholds))
        object.__setattr__(self, "temperatures", tuple(_positive(t) for t in self.temperatures))
        object.__setattr__(self, "learned", tuple(tuple(map(float, row)) for row in self.learned))

    def _clean(self, threshold: Any) -> float:
        """The threshold as it is stored; raises ValueError for an invalid one."""
        raise NotImplementedError

    # -- deciding --

    def begin(self) -> Policy:
        """The policy for one stream of images; itself, unless it remembers images (`RunningPolicy`)."""
        return self

    @property
    def base(self) -> Policy:
        """The policy whose thresholds these are: itself, unless they follow the images (`RunningPolicy`)."""
        return self

    def start(self, n: int, like: Any) -> State:
        """State before the first exit: arrays (n,), a row per image, of ``like``'s library and device."""
        return ()

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """The value (b,) that is compared at ``exit``, and the new state; arguments as of `decide`."""
        return scores[self.reads[0]], state

    def level(self, exit: int) -> float:
        """The number that `value` is compared with at ``exit``: the threshold, unless a policy overrides it."""
        return self.threshold(exit)

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """Whether each of b images exits at ``exit`` (0-based).

        Args:
            exit: at the last one all images exit in any case.
            scores: name → (b,) array, numpy or torch, this exit's only; at least those in ``reads``.
            state: of these b images, from `start` or the previous exit.

        Returns:
            (b,) bool and the new state, rows as in ``scores``.
        """
        value, state = self.value(exit, scores, state)
        level = float(np.float32(self.level(exit)))
        return (value <= level if self.falling else value >= level), state

    def threshold(self, exit: int) -> float:
        """The threshold at ``exit`` (0-based); after the last of several, `threshold_all`."""
        if len(self.thresholds) == 1:
            return self.thresholds[0]
        return self.thresholds[exit] if exit < len(self.thresholds) else self.threshold_all

    def check(self, n_exits: int) -> None:
        """Raise ValueError if thresholds, temperatures or what was learned do not fit ``n_exits`` exits."""
        if len(self.thresholds) not in (1, n_exits - 1):
            raise ValueError(
                f"policy {self.name!r} has {len(self.thresholds)} thresholds; {n_exits} exits need 1 or {n_exits - 1}"
            )
        if len(self.temperatures) not in (0, n_exits):
            raise ValueError(f"policy {self.name!r} has {len(self.temperatures)} temperatures for {n_exits} exits")
        if self.learns and n_exits > 1 and not {*self.thresholds} <= {self.threshold_all, self.threshold_none}:
            self._check_learned(n_exits)

    def _check_learned(self, n_exits: int) -> None:
        """Raise ValueError if ``learned`` does not fit ``n_exits`` exits; for policies that ``learn``."""
        raise NotImplementedError(f"policy {self.name!r} learns, so it needs a method _check_learned(n_exits)")

    # -- reading --

    def read(self, exit: int, logits: Any, more: Sequence[str] = ()) -> dict[str, Any]:
        """The scores in ``reads`` and ``more`` of ``exit``'s logits (b, C), at its temperature if it has one."""
        return scores_of_record(logits, (*self.reads, *more), self.temperatures[exit] if self.temperatures else None)

    def unavailable_reason(self, record: ExitRecord) -> str | None:
        """Why the policy cannot be fitted on ``record`` or applied to it; None if it can.

        It reads a score that the record neither holds nor can compute, has temperatures and the record no logits, fits
        another number of exits, or would learn from ``test``.

        Example:
            >>> import dmpo_explore as dx
            >>> record = dx.load_run("demo").record("test")
            >>> dx.POLICIES["gate"]((0.0,)).unavailable_reason(record)[:50]
            "policy 'gate' must not learn from a test record; f"
        """
        full_depth = {*self.thresholds} == {self.threshold_none}
        if self.learns and not self.learned and not full_depth and record.n_exits > 1 and record.meta.split == "test":
            return must_not_learn(self.name)
        if self._heats(record) and record.logits is None:
            return (
                f"policy {self.name!r} has temperatures, which need logits; {record.described} has none: {MAKE_LOGITS}"
            )
        try:
            self.check(record.n_exits)
        except ValueError as error:
            return str(error)
        return next(filter(None, map(record.unavailable_reason, self.reads)), None)

    def _heats(self, record: ExitRecord) -> bool:
        """Whether its temperatures change the scores that it reads of ``record``, which may have them already."""
        return self.temperatures not in ((), record.temperatures) and not {*self.reads} <= {"prediction"}

    def columns(self, record: ExitRecord) -> dict[str, Array]:
        """Name → (B, K): the scores in ``reads``, at the policy's temperatures.

        Raises:
            ValueError: as `unavailable_reason`, where a score or the logits are missing.
        """
        if not self._heats(record):
            return {name: record.score(name) for name in self.reads}
        if record.logits is None:
            raise ValueError(self.unavailable_reason(record))
        return record.scores_at(self.reads, self.temperatures)

    @classmethod
    def compared_score(cls) -> str | None:
        """The score that is compared with the threshold as it is; None if something is made of it first."""
        plain = all(
            getattr(cls, part) is getattr(Policy, part) for part in ("value", "level", "decide", "threshold", "read")
        )
        return cls.reads[0] if plain and len(cls.reads) == 1 else None

    def values(self, record: ExitRecord) -> Array:
        """(B, K−1) values that are compared at every exit but the last."""
        columns, state, found = self.columns(record), self.start(record.n_images, record.labels), []
        for exit in range(record.n_exits - 1):
            seen = {name: column[:, exit] for name, column in columns.items()}
            value, state = self.value(exit, seen, state)
            found.append(value)
        return np.stack(found, axis=1) if found else np.zeros((record.n_images, 0), np.float32)

    def exits(self, record: ExitRecord) -> Ints:
        """(B,) exit of every image, 0-based."""
        self.check(record.n_exits)
        columns, state = self.columns(record), self.start(record.n_images, record.labels)
        result = np.empty(record.n_images, np.int64)
        for first in range(0, record.n_images, BLOCK):
            rows = slice(first, first + BLOCK)
            block, here = {name: column[rows] for name, column in columns.items()}, tuple(part[rows] for part in state)
            staying = np.ones(len(result[rows]), bool)
            exits = np.zeros(len(staying), np.min_scalar_type(record.n_exits))  # at how many exits an image stays
            for exit in range(record.n_exits - 1):
                leave, here = self.decide(exit, {name: column[:, exit] for name, column in block.items()}, here)
                staying &= ~leave
                exits += staying
            result[rows] = exits
        return result

    # -- fitting --

    def learn(self, record: ExitRecord) -> Policy:
        """The policy fitted to ``record``; the policy itself unless it ``learns``.

        Raises:
            ValueError: it learns, and ``record`` is of ``test``.
        """
        if not self.learns or record.n_exits == 1:
            return self
        if record.meta.split == "test":
            raise ValueError(must_not_learn(self.name))
        return replace(self, learned=self._learn(record))

    def _learn(self, record: ExitRecord) -> tuple[tuple[float, ...], ...]:
        """The rows of ``learned``; for policies that ``learn``."""
        raise NotImplementedError(f"policy {self.name!r} learns, so it needs a method _learn(record)")

    @property
    def sweeps(self) -> bool:
        """Whether one threshold can be moved over its whole range, with all else kept."""
        return True

    @classmethod
    def settings(cls, n_exits: int) -> Sequence[float] | None:
        """All useful thresholds, the cheapest first, if there are only a few; None for real numbers."""
        return None

    @classmethod
    def grid(cls, n_exits: int, n_classes: int) -> list[float]:
        """Thresholds for risk control, the one at which no image exits early first; it depends on no image."""
        return [float(t) for t in reversed(cls.settings(n_exits) or (cls.threshold_all, cls.threshold_none))]

    def candidates(self, record: ExitRecord) -> Candidates:
        """Every useful single threshold with its exits on ``record``."""
        settings = self.settings(record.n_exits) or (self.threshold_all, self.threshold_none)
        counts = self.counts(record, settings)
        return Candidates(np.array(settings), counts.sum(axis=2), counts[..., 0].sum(axis=1))

    def counts(self, record: ExitRecord, thresholds: Sequence[float]) -> Ints:
        """(G, K, 2): images that exit correct and incorrect at every exit, for each threshold used at all exits."""
        record = record.tempered(self.temperatures) if self._heats(record) else record  # once, not for every threshold
        return np.stack([count_answers(record, replace(self, thresholds=(t,)).exits(record)) for t in thresholds])

    def with_thresholds(self, record: ExitRecord, thresholds: Sequence[float]) -> Policy:
        """The policy with these thresholds, one or K−1; ``record`` is for policies that learn levels from it."""
        return replace(self, thresholds=tuple(thresholds))

    def with_shares(self, record: ExitRecord, shares: Sequence[float]) -> Policy:
        """Thresholds at which floor(B · share) of ``record``'s images exit at each exit, or the remaining ones.

        Raises:
            ValueError: a policy whose value does not rank images.
        """
        raise ValueError("shares= needs a policy that reads a score: confidence, entropy, margin, budgeted …")

    def fitted_by(self, fit: Callable[[Policy, ExitRecord], Policy], record: ExitRecord) -> Policy:
        """The policy fitted to ``record`` by ``fit``, to the target that it has."""
        return fit(self, record)

    # -- showing --

    def explain(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Comparison, State]:
        """The comparison for a single image (b = 1) at ``exit``, and the new state; arguments as of `decide`."""
        leave, after = self.decide(exit, scores, state)
        value, _ = self.value(exit, scores, state)
        return Comparison(float(value[0]), float(self.level(exit)), bool(leave[0])), after

    @classmethod
    def format_value(cls, number: float, digits: int = 1) -> str:
        """A value or a threshold as text with its unit; ``digits`` decimals of a percentage."""
        if cls.unit == "%":
            return f"{number:.{digits}%}" if number <= 1 else "more than 100%"
        return f"{number:.{digits + 1}f} {cls.unit}".rstrip()

    # -- files --

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `policy_from_dict` gives an equal policy back."""
        values = {"policy": self.name, "thresholds": list(self.thresholds), "fitted": deepcopy(self.fitted)}
        more = {"temperatures": list(self.temperatures), "learned": [list(row) for row in self.learned]}
        return values | {key: value for key, value in more.items() if value}

    def save(self, path: str | Path) -> None:
        """Write the policy as JSON."""
        write_json(Path(path), self.to_dict())


def _positive(temperature: Any) -> float:
    number = isinstance(temperature, int | float | np.floating) and not isinstance(temperature, bool)
    if not number or not 0 < temperature < math.inf:
        raise ValueError(f"temperature {short(temperature)} must be a positive number")
    return float(temperature)


def must_not_learn(name: str) -> str:
    """The error text for a policy that would learn from ``test``."""
    return (
        f"policy {name!r} must not learn from a test record; fit it on a calibration or val record, with "
        "fit_policy(record, …), and use that policy"
    )


def not_deployable(name: str) -> str:
    """The error text for a bound that reads the labels, which cannot decide about images."""
    bound = "reads the labels: it is a bound for records and cannot decide about images"
    return f"policy {name!r} {bound}; use another one, e.g. confidence"
