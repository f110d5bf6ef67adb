"""Live statistics: speed, exits, accuracy, and agreement with the record, of the calls of a live run.

In: a record, and one `Call` after another. Out: `Count`, plain numbers. A new policy starts a new stretch: speed,
exits and accuracy are counted within it. Agreement is counted over all calls, each against the policy that decided it.
Memory is bounded: the last calls for quantiles and charts, the last answers, the first disagreements.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.typing import Floats, Ints, at_exits
from .exit_loop import InferenceResult


@dataclass(frozen=True)
class Call:
    """One call of either arm on the same n images.

    Args:
        rows: (n,) rows of the record. policy: the one that decided the exits. early: result of the early-exit arm.
        full: (n,) labels of the full model. early_s, full_s: seconds of each arm.
        stage_s: seconds from the call's begin until each stage ended, as far as stages ran; empty: not known.
        early_j, full_j: joules of each arm; None: not known, or not measured in this call.

    Example:
        >>> import numpy as np
        >>> import dmpo_explore as dx
        >>> record, policy = dx.load_run("demo").record("test"), dx.policies.ConfidencePolicy((0.9,))
        >>> outcome = dx.apply(policy, record.subset(rows := np.arange(100)))
        >>> early = InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)
        >>> call = Call(rows, policy, early, record.prediction[rows, -1], early_s=0.5, full_s=1.0)
        >>> len(call.rows), call.early.exit.shape, call.full.shape
        (100, (100,), (100,))
    """

    rows: Ints
    policy: Policy
    early: InferenceResult
    full: Ints
    early_s: float
    full_s: float
    stage_s: tuple[float, ...] = ()
    early_j: float | None = None
    full_j: float | None = None


@dataclass(frozen=True)
class Latency:
    """Latency of the images of one exit: seconds from their call's begin until that exit's stage ended, call by call.

    Args:
        seconds: of the last calls in which images exited there. images: how many in each of them.

    Example:
        >>> Latency(seconds=(0.02, 0.04), images=(3, 1)).mean
        0.025
    """

    seconds: tuple[float, ...]
    images: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean over images, in seconds; NaN without any."""
        n = sum(self.images)
        return sum(s * i for s, i in zip(self.seconds, self.images, strict=True)) / n if n else float("nan")


@dataclass(frozen=True)
class Speed:
    """Speed of one arm in one stretch. ``seconds``: inside its calls; ``p50``, ``p95``: seconds of a call.
    ``joules``: of its images together, from the calls in which they were measured; None: not known.

    Example:
        >>> Speed(images=100, seconds=2.0, p50=0.02, p95=0.03).rate
        50.0
    """

    images: int
    seconds: float
    p50: float
    p95: float
    joules: float | None = None

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Measured:
    """Measurements of a stretch: the calls since the policy was last exchanged.

    Args:
        speed_up: seconds of the full arm over those of the early one, for the same images.
        low, high: 10 % and 90 % quantiles of that ratio from call to call.
        expected_speed_up: the same ratio of FLOPs: the plain backbone's over those of the exits taken.
        exits: (K,) images that exited there. accuracy, full_accuracy: shares of correct labels of either arm.
        latency: of each exit; empty where stages are not timed.

    Example:
        >>> arms = Speed(100, 0.5, 0.5, 0.5), Speed(100, 1.0, 1.0, 1.0)
        >>> measured = Measured(1, *arms, 2.0, 2.0, 2.0, 2.5, exits=(80, 20), accuracy=0.9, full_accuracy=0.91)
        >>> measured.early.rate, measured.full.rate, measured.speed_up
        (200.0, 100.0, 2.0)
    """

    calls: int
    early: Speed
    full: Speed
    speed_up: float
    low: float
    high: float
    expected_speed_up: float
    exits: tuple[int, ...]
    accuracy: float
    full_accuracy: float
    latency: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Result for one image: row of the record, 0-based exit, label, confidence there.

    Example:
        >>> Answer(row=7, exit=1, label=3, confidence=0.98).exit
        1
    """

    row: int
    exit: int
    label: int
    confidence: float


@dataclass(frozen=True)
class Disagreement:
    """An image whose exit or label differs from its record; exits are 0-based.

    ``distance``: of the recorded score to the threshold at the first exit where the two differ; None where the policy
    compares no score there.

    Example:
        >>> Disagreement(row=7, exit=0, recorded_exit=1, label=3, recorded_label=3, distance=1e-7).recorded_exit
        1
    """

    row: int
    exit: int
    recorded_exit: int
    label: int
    recorded_label: int
    distance: float | None


@dataclass(frozen=True)
class Point:
    """After a call: images classified since the start, (K,) exit shares of the stretch so far, images per second.

    Example:
        >>> Point(answered=64, shares=(0.75, 0.25), early=120.0, full=60.0).shares
        (0.75, 0.25)
    """

    answered: int
    shares: tuple[float, ...]
    early: float
    full: float


@dataclass(frozen=True)
class Count:
    """All live statistics at one moment.

    Args:
        images: classified since the start. agreed: of them with the record's exit and label. full_agreed: of them with
            the record's last label from the full model.
        measured: the stretch under ``policy``; None before its first call.
        last: newest first. moves: changes of the policy: images classified before each, and the policy.

    Example:
        >>> import dmpo_explore as dx
        >>> count = dx.inference.LiveStats(dx.load_run("demo").record("test")).count()
        >>> count.images, count.measured
        (0, None)
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


WINDOW = 2000  # calls that quantiles are taken of
CALLS, SHOWN = 300, 32  # calls of the timeline; answers, disagreements and moves that are kept


@dataclass
class _Stretch:
    """Sums under one policy."""

    exits: Ints
    calls: int = 0
    images: int = 0
    correct: int = 0
    full_correct: int = 0
    early_s: float = 0.0
    full_s: float = 0.0
    joules: Floats = field(default_factory=lambda: np.zeros(2))  # of both arms, in the calls that measured them
    joules_of: int = 0  # images of these calls
    times: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=WINDOW))  # both arms', images
    latency: list[deque[tuple[float, int]]] = field(default_factory=list)  # of each exit: seconds, images

    def __post_init__(self) -> None:
        self.latency = [deque(maxlen=WINDOW) for _ in self.exits]


class LiveStats:
    """Live statistics of calls, one call after another; not thread-safe.

    Args:
        record: the one that the calls' rows refer to.

    Example:
        >>> import numpy as np
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.inference.live_stats import Call
        >>> record, policy = dx.load_run("demo").record("test"), dx.policies.ConfidencePolicy((0.9,))
        >>> rows = np.arange(100)
        >>> outcome = dx.apply(policy, record.subset(rows))
        >>> early = dx.InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)
        >>> stats = LiveStats(record)
        >>> stats.add(Call(rows, policy, early, record.prediction[rows, -1], early_s=0.5, full_s=1.0))
        >>> stats.count().measured.speed_up
        2.0
    """

    def __init__(self, record: ExitRecord) -> None:
        self._record = record
        self._policy: Policy | None = None
        self._stream: Policy | None = None  # `_policy`, begun
        self._stretch = _Stretch(np.zeros(record.n_exits, np.int64))
        self._images = self._agreed = self._full_agreed = 0
        self._disagreements: list[Disagreement] = []
        self._last: deque[Answer] = deque(maxlen=SHOWN)
        self._timeline: deque[Point] = deque(maxlen=CALLS)
        self._moves: deque[tuple[int, Policy]] = deque(maxlen=SHOWN)

    def add(self, call: Call) -> None:
        """Add one call."""
        if call.policy != self._policy:
            self._policy, self._stream = call.policy, call.policy.begin()
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
        """The statistics so far."""
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
        assert self._stream is not None
        exits, early = self._stream.exits(part), call.early
        labels = at_exits(part.prediction, exits)
        same = (early.exit == exits) & (early.label == labels)
        self._agreed += int(same.sum())
        self._full_agreed += int((call.full == part.prediction[:, -1]).sum())
        for i in np.flatnonzero(~same)[: SHOWN - len(self._disagreements)].tolist():
            executed, recorded = int(early.exit[i]), int(exits[i])
            distance = None if executed == recorded else _distance(call.policy, part, i, min(executed, recorded))
            both = int(early.label[i]), int(labels[i])
            self._disagreements.append(Disagreement(int(call.rows[i]), executed, recorded, *both, distance))

    def _measure(self, call: Call, part: ExitRecord) -> None:
        stretch, n = self._stretch, part.n_images
        here = np.bincount(call.early.exit, minlength=part.n_exits)
        stretch.exits += here
        for k, (seconds, images) in enumerate(zip(call.stage_s, here.tolist(), strict=False)):
            if images:
                stretch.latency[k].append((seconds, images))
        stretch.calls += 1
        stretch.images += n
        stretch.correct += int((call.early.label == part.labels).sum())
        stretch.full_correct += int((call.full == part.labels).sum())
        stretch.early_s += call.early_s
        stretch.full_s += call.full_s
        if call.early_j is not None and call.full_j is not None:
            stretch.joules += (call.early_j, call.full_j)
            stretch.joules_of += n
        stretch.times.append((call.early_s, call.full_s, n))
        shares = tuple((stretch.exits / stretch.images).tolist())
        self._timeline.append(Point(self._images, shares, n / call.early_s, n / call.full_s))

    def _measured(self) -> Measured:
        stretch, times = self._stretch, np.asarray(self._stretch.times)
        whole = times[times[:, 2] == times[:, 2].max(), :2]  # a smaller call is over sooner
        (early50, full50), (early95, full95) = np.quantile(whole, (0.5, 0.95), axis=0).tolist()
        low, high = np.quantile(times[:, 1] / times[:, 0], (0.1, 0.9)).tolist()
        flops = float(self._record.flops_fraction @ stretch.exits) / stretch.images
        joules = (stretch.joules * stretch.images / stretch.joules_of).tolist() if stretch.joules_of else (None, None)
        return Measured(
            calls=stretch.calls,
            early=Speed(stretch.images, stretch.early_s, early50, early95, joules[0]),
            full=Speed(stretch.images, stretch.full_s, full50, full95, joules[1]),
            speed_up=stretch.full_s / stretch.early_s,
            low=low,
            high=high,
            expected_speed_up=1 / flops,
            exits=tuple(stretch.exits.tolist()),
            accuracy=stretch.correct / stretch.images,
            full_accuracy=stretch.full_correct / stretch.images,
            latency=tuple(Latency(*_columns(one)) for one in stretch.latency) if any(stretch.latency) else (),
        )


def _columns(pairs: deque[tuple[float, int]]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    return tuple(seconds for seconds, _ in pairs), tuple(images for _, images in pairs)


def _distance(policy: Policy, part: ExitRecord, i: int, exit: int) -> float:
    """How far image ``i``'s recorded value lies from the threshold of ``exit``, which is not the last one."""
    return abs(float(policy.values(part)[i, exit]) - float(np.float32(policy.level(exit))))
