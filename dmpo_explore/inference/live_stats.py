"""What a live run did, counted: how fast, who left where, and whether that is what the record says.

In: a record, and one `Call` after another. Out: `Count`, plain numbers. Another policy begins a new stretch: speed,
exits and accuracy are counted within it, agreement over all calls, each held against the policy that decided it.
Memory is bounded: the last calls for quantiles and charts, the last answers, the first disagreements.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.arrays import at_exits
from ..utils.typing import Ints
from .loop import InferenceResult

WINDOW = 2000  # calls that quantiles are taken of
CALLS, SHOWN = 300, 32  # calls of the timeline; answers, disagreements and moves that are kept


@dataclass(frozen=True)
class Call:
    """Some images that both arms answered.

    Args:
        rows: (n,) of the record. policy: which let them leave. early: what it gave. full: (n,) labels of the last exit.
        early_s, full_s: seconds that each arm took.
    """

    rows: Ints
    policy: Policy
    early: InferenceResult
    full: Ints
    early_s: float
    full_s: float


@dataclass(frozen=True)
class Speed:
    """One arm in one stretch. ``seconds``: inside its calls; ``p50``, ``p95``: seconds of a call."""

    images: int
    seconds: float
    p50: float
    p95: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Measured:
    """A stretch: the calls since the policy was last exchanged.

    Args:
        speed_up: seconds of the full arm over those of the early one, for the same images.
        low, high: 10 % and 90 % quantiles of that ratio from call to call.
        promised: the same ratio of FLOPs: the plain backbone's over those of the exits taken.
        exits: (K,) images that left there. accuracy, full_accuracy: shares of right answers of either arm.
    """

    calls: int
    early: Speed
    full: Speed
    speed_up: float
    low: float
    high: float
    promised: float
    exits: tuple[int, ...]
    accuracy: float
    full_accuracy: float


@dataclass(frozen=True)
class Answer:
    """One image: row of the record, 0-based exit, label, confidence there."""

    row: int
    exit: int
    label: int
    confidence: float


@dataclass(frozen=True)
class Disagreement:
    """An image that left elsewhere, or with another answer, than its record says; exits are 0-based.

    ``distance``: of the recorded score to the threshold at the first exit where the two part; None where the policy
    compares no score there.
    """

    row: int
    exit: int
    recorded_exit: int
    label: int
    recorded_label: int
    distance: float | None


@dataclass(frozen=True)
class Point:
    """After a call: images answered since the start, (K,) exit shares of the stretch so far, images per second."""

    answered: int
    shares: tuple[float, ...]
    early: float
    full: float


@dataclass(frozen=True)
class Count:
    """All that was counted.

    Args:
        images: answered since the start. agreed: of them with the record's exit and answer; full_agreed: of them for
            which the full model gave the record's last answer.
        measured: the stretch under ``policy``; None before its first call.
        last: newest first. moves: images answered when a policy came, and which.
    """

    policy: Policy | None
    images: int
    agreed: int
    full_agreed: int
    measured: Measured | None
    disagreements: tuple[Disagreement, ...]
    last: tuple[Answer, ...]
    timeline: tuple[Point, ...]
    moves: tuple[tuple[int, Policy], ...]


@dataclass
class _Stretch:
    """Sums under one policy."""

    exits: Ints
    calls: int = 0
    images: int = 0
    right: int = 0
    full_right: int = 0
    early_s: float = 0.0
    full_s: float = 0.0
    times: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=WINDOW))  # both arms', images


class Tally:
    """Counts calls; not for several threads at once.

    Args:
        record: of the split that the rows are of.
    """

    def __init__(self, record: ExitRecord) -> None:
        self._record = record
        self._policy: Policy | None = None
        self._stretch = _Stretch(np.zeros(record.n_exits, np.int64))
        self._images = self._agreed = self._full_agreed = 0
        self._disagreements: list[Disagreement] = []
        self._last: deque[Answer] = deque(maxlen=SHOWN)
        self._timeline: deque[Point] = deque(maxlen=CALLS)
        self._moves: deque[tuple[int, Policy]] = deque(maxlen=SHOWN)

    def add(self, call: Call) -> None:
        """Count ``call``."""
        if call.policy != self._policy:
            self._policy = call.policy
            self._stretch = _Stretch(np.zeros(self._record.n_exits, np.int64))
            self._moves.append((self._images, call.policy))
        part = self._record.subset(call.rows)
        self._compare(call, part)
        self._images += len(call.rows)
        self._measure(call, part)
        early = call.early
        answers = zip(
            call.rows.tolist(), early.exit.tolist(), early.label.tolist(), early.confidence.tolist(), strict=True
        )
        self._last.extendleft(Answer(*answer) for answer in answers)

    def count(self) -> Count:
        """What was counted so far."""
        return Count(
            policy=self._policy,
            images=self._images,
            agreed=self._agreed,
            full_agreed=self._full_agreed,
            measured=self._measured() if self._stretch.calls else None,
            disagreements=tuple(self._disagreements),
            last=tuple(self._last),
            timeline=tuple(self._timeline),
            moves=tuple(self._moves),
        )

    def _compare(self, call: Call, part: ExitRecord) -> None:
        exits, early = call.policy.exits(part), call.early
        labels = at_exits(part.prediction, exits)
        same = (early.exit == exits) & (early.label == labels)
        self._agreed += int(same.sum())
        self._full_agreed += int((call.full == part.prediction[:, -1]).sum())
        for i in np.flatnonzero(~same)[: SHOWN - len(self._disagreements)].tolist():
            left, recorded = int(early.exit[i]), int(exits[i])
            distance = None if left == recorded else _distance(call.policy, part, i, min(left, recorded))
            said = int(early.label[i]), int(labels[i])
            self._disagreements.append(Disagreement(int(call.rows[i]), left, recorded, *said, distance))

    def _measure(self, call: Call, part: ExitRecord) -> None:
        stretch, n = self._stretch, part.n_images
        stretch.exits += np.bincount(call.early.exit, minlength=part.n_exits)
        stretch.calls += 1
        stretch.images += n
        stretch.right += int((call.early.label == part.labels).sum())
        stretch.full_right += int((call.full == part.labels).sum())
        stretch.early_s += call.early_s
        stretch.full_s += call.full_s
        stretch.times.append((call.early_s, call.full_s, n))
        shares = tuple((stretch.exits / stretch.images).tolist())
        self._timeline.append(Point(self._images, shares, n / call.early_s, n / call.full_s))

    def _measured(self) -> Measured:
        stretch, times = self._stretch, np.asarray(self._stretch.times)
        whole = times[times[:, 2] == times[:, 2].max(), :2]  # a smaller call is over sooner
        (early50, full50), (early95, full95) = np.quantile(whole, (0.5, 0.95), axis=0).tolist()
        low, high = np.quantile(times[:, 1] / times[:, 0], (0.1, 0.9)).tolist()
        cost = float(self._record.flops_fraction @ stretch.exits) / stretch.images
        return Measured(
            calls=stretch.calls,
            early=Speed(stretch.images, stretch.early_s, early50, early95),
            full=Speed(stretch.images, stretch.full_s, full50, full95),
            speed_up=stretch.full_s / stretch.early_s,
            low=low,
            high=high,
            promised=1 / cost,
            exits=tuple(stretch.exits.tolist()),
            accuracy=stretch.right / stretch.images,
            full_accuracy=stretch.full_right / stretch.images,
        )


def _distance(policy: Policy, part: ExitRecord, i: int, exit: int) -> float:
    """How far image ``i``'s recorded value lies from the threshold of ``exit``, which is not the last one."""
    return abs(float(policy.values(part)[i, exit]) - float(np.float32(policy.level(exit))))
