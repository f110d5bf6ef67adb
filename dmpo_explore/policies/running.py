"""A budget that holds: a fitted policy whose thresholds follow the images, so that its exit shares stay what they were.

In: a fitted policy and the record that it was fitted on. Out: `RunningPolicy`, which at every exit compares an image
with the last images that came there, without labels, in one pass and constant memory. Ours: the running quantile is
that of a window of W images; if they come in random order, the share that exits is W/(W + 1) of what is held, whatever
the scores are worth, and more where scores tie. What the answers are worth is another matter: no bound on risk or
accuracy holds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from array_api_compat import array_namespace, device, to_device

from ..records.record import ExitRecord
from ..utils.typing import Bools, Floats, Ints
from .base import Candidates, Policy, State, not_deployable

WINDOW = 500  # images that came to an exit, by default


class LastValues:
    """The last values that came to an exit, as they came and sorted, and whether the next ones are among the highest.

    Args:
        values: (W,) those before the first image. leaving: of W images, how many leave.
    """

    def __init__(self, values: Floats, leaving: int) -> None:
        self.came, self.ranked, self.leaving = deque(values.tolist()), sorted(values.tolist()), leaving

    def leave(self, values: Floats) -> Bools:
        """(b,) whether each leaves, by the W values before it."""
        found, place = np.empty(len(values), bool), len(self.came) - self.leaving
        for i, value in enumerate(values.tolist()):
            found[i] = place == 0 or (self.leaving > 0 and value >= self.ranked[place])
            del self.ranked[bisect_left(self.ranked, self.came.popleft())]
            insort(self.ranked, value)
            self.came.append(value)
        return found


@dataclass(frozen=True)
class RunningPolicy(Policy):
    """A policy whose exits keep their shares: a threshold is the quantile of the last values that came to its exit.

    `hold_budget` makes one. An image's exit depends on the images before it, so their order counts; batches do not, as
    every image is compared by itself. A stream begins with the thresholds of ``base``, of which images replace one by
    one; `begin` starts one, and what it gives goes on from call to call. Where a threshold is `threshold_none` no image
    leaves, whatever its exit's share.

    Args:
        base: the fitted policy. shares: (K−1,) of the images that come to an exit, those that leave there.
        window: how many of the last images at each exit count.

    Raises:
        ValueError: a share outside [0, 1], a window below 1, or a policy that compares no score.

    Example:
        >>> from dmpo_explore.policies import ConfidencePolicy
        >>> policy = RunningPolicy(base=ConfidencePolicy((0.9,)), shares=(0.5,), window=4)
        >>> stream = policy.begin()
        >>> dark = {"confidence": np.full(8, 0.3) + np.arange(8) % 2 / 10}  # nothing would reach 0.9
        >>> stream.decide(0, dark, stream.start(8, np.zeros(8)))[0].tolist()
        [False, False, False, True, False, True, False, True]
    """

    name = "running"
    rule = "Exit so that the shares that **{}** gave hold: thresholds follow the images."
    summary = "another policy, with thresholds that keep its exit shares on the images that come"

    thresholds: tuple[float, ...] = ()
    base: Policy = field(default=cast(Policy, None))
    shares: tuple[float, ...] = ()
    window: int = WINDOW
    seen: dict[int, LastValues] | None = field(default=None, compare=False, repr=False)  # by exit

    def __post_init__(self) -> None:
        if not self.base.holds:
            raise ValueError(f"policy {self.base.name!r} compares no score, so its exit shares cannot be held")
        if not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(f"shares={list(self.shares)} must be numbers in [0, 1], one per exit but the last")
        if self.window < 1:
            raise ValueError(f"window={self.window!r} must be at least 1 image")
        of_base = ("thresholds", "fitted", "temperatures", "learned", "reads", "compares", "unit", "falling")
        for name in (*of_base, "threshold_all", "threshold_none"):
            object.__setattr__(self, name, getattr(self.base, name))

    def begin(self) -> RunningPolicy:
        """See `Policy.begin`: a stream of its own; the policy itself if it is one already."""
        return replace(self, seen={}) if self.seen is None else self

    def check(self, n_exits: int) -> None:
        """See `Policy.check`."""
        self.base.check(n_exits)
        if len(self.shares) != n_exits - 1:
            raise ValueError(f"policy {self.name!r} has {len(self.shares)} shares; {n_exits} exits need {n_exits - 1}")

    def start(self, n: int, like: Any) -> State:
        """See `Policy.start`."""
        return self.base.start(n, like)

    def value(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.value`."""
        return self.base.value(exit, scores, state)

    def level(self, exit: int) -> float:
        """See `Policy.level`: that of the first image of a stream."""
        return self.base.level(exit)

    def decide(self, exit: int, scores: Mapping[str, Any], state: State) -> tuple[Any, State]:
        """See `Policy.decide`; before `begin`, as the first image of a stream. NaN is refused: it has no rank."""
        value, after = self.base.value(exit, scores, state)
        if self.seen is None or exit >= len(self.shares):
            return self.base.decide(exit, scores, state)
        values = np.asarray(to_device(value, "cpu"), np.float64)
        if np.isnan(values).any():
            raise ValueError(f"exit {exit + 1} gave NaN as {self.compares}; check the images and the weights")
        if exit not in self.seen:
            self.seen[exit] = self._last_values(exit)
        leave = self.seen[exit].leave(-values if self.falling else values)
        return array_namespace(value).asarray(leave, device=device(value)), after

    def _last_values(self, exit: int) -> LastValues:
        """Those of a stream's begin: the threshold of ``base`` and lower ones in turn, so that it is their quantile."""
        never = self.base.threshold(exit) == self.threshold_none  # early exits are switched off here
        leaving = 0 if never else round(self.shares[exit] * self.window)
        steps, level = np.arange(self.window + 1) * leaving // self.window, float(np.float32(self.base.level(exit)))
        return LastValues(np.where(np.diff(steps) > 0, -level if self.falling else level, -np.inf), leaving)

    def exits(self, record: ExitRecord) -> Ints:
        """See `Policy.exits`; the record's order is that of the stream."""
        self.check(record.n_exits)
        stream, columns = self.begin(), self.base.columns(record)
        state, rows = self.start(record.n_images, record.labels), np.arange(record.n_images)
        result = np.full(record.n_images, record.n_exits - 1)
        for exit in range(record.n_exits - 1):
            leave, state = stream.decide(exit, {name: column[:, exit][rows] for name, column in columns.items()}, state)
            result[rows[leave]] = exit
            rows, state = rows[~leave], tuple(part[~leave] for part in state)
        return result

    @property
    def sweeps(self) -> bool:
        """See `Policy.sweeps`: a threshold that follows the images cannot be moved."""
        return False

    def candidates(self, record: ExitRecord) -> Candidates:
        """See `Policy.candidates`; ValueError."""
        raise ValueError(f"policy {self.name!r} keeps the shares of another one; move the threshold of that")

    def counts(self, record: ExitRecord, thresholds: Sequence[float]) -> Ints:
        """See `Policy.counts`; ValueError."""
        return self.candidates(record).exit_counts

    def fitted_by(self, fit: Callable[[Policy, ExitRecord], Policy], record: ExitRecord) -> Policy:
        """See `Policy.fitted_by`: ``base`` is fitted, and its shares there are held."""
        return hold_budget(fit(self.base, record), record, window=self.window)

    def to_dict(self) -> dict[str, Any]:
        """See `Policy.to_dict`: the values of ``base``, and what is held."""
        return self.base.to_dict() | {"running": {"shares": list(self.shares), "window": self.window}}


def hold_budget(policy: Policy, record: ExitRecord, *, window: int = WINDOW) -> RunningPolicy:
    """A fitted policy made to keep its exit shares, and so its compute, on whatever images come.

    Its labels are not needed any more, nor is a certificate kept: the risk is not bounded.

    Args:
        policy: fitted, of a score. record: on which it has the shares that are to be held; the one that it was fitted
            on. window: as `RunningPolicy`.

    Raises:
        ValueError: a policy that cannot be deployed, that compares no score, or of another number of exits.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("fashion")
        >>> policy = dx.fit_policy(run.record("calibration"), flops=0.30)
        >>> held = hold_budget(policy, run.record("calibration"))
        >>> [round(dx.apply(one, run.record("test")).summary()["flops_fraction"], 3) for one in (policy, held)]
        [0.242, 0.241]
    """
    if not policy.deployable:
        raise ValueError(not_deployable(policy.name))
    policy.check(record.n_exits)
    left = np.bincount(policy.exits(record), minlength=record.n_exits)[:-1]
    came = record.n_images - np.concatenate([[0], left.cumsum()[:-1]])
    shares = np.divide(left, came, out=np.ones(len(left)), where=came > 0)
    uncertified = {key: value for key, value in policy.fitted.items() if key != "certificate"}
    return RunningPolicy(base=replace(policy, fitted=uncertified), shares=tuple(shares.tolist()), window=window)
