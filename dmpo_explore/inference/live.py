"""Live runs: early-exit inference on a recorded split beside the full model, with its statistics.

Live statistics: speed, exits, accuracy, and agreement with the record, of the calls of a live run.
In: a record, and one `Call` after another. Out: `Count`, plain numbers. A new policy starts a new stretch: speed,
exits and accuracy are counted within it. Agreement is counted over all calls, each against the policy that decided it.
Memory is bounded: the last calls for quantiles and charts, the last answers, the first disagreements.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..policies.base import Policy
from ..policies.catalogue import POLICIES
from ..records.record import ExitRecord
from ..runs.run_files import WEIGHTS
from ..utils.files import cache_dir, remove, sha256
from ..utils.registry import lookup
from ..utils.typing import Floats, Ints, at_exits
from .device import Counter, call_energy, energy_counter, idle_watts
from .exit_loop import InferenceResult, Step

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..models.dmpo import DMPO
    from ..runs.run import Run


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
        >>> from dmpo_explore.inference.live import Call
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
            latency=tuple(Latency(tuple(s for s, _ in one), tuple(n for _, n in one)) for one in stretch.latency)
            if any(stretch.latency)
            else (),
        )


def _distance(policy: Policy, part: ExitRecord, i: int, exit: int) -> float:
    """How far image ``i``'s recorded value lies from the threshold of ``exit``, which is not the last one."""
    return abs(float(policy.values(part)[i, exit]) - float(np.float32(policy.level(exit))))


# Live run: early-exit inference on a recorded split, batch by batch, compared with the full model on the same batches.
#
# In: two arms (`open_arms` makes them from a run's model), the record, a policy that may be exchanged at any time.
# Out: `LiveRun.look`, the live statistics so far. The work runs in a thread of its own. The thread ends when it is
# stopped, at the end of the images, at an error (kept), or when `LiveRun.look` has not been called for a while.
#
# Ours: the full model is the same model without its other exits. A call is timed from images in the device's memory to
# labels on the host. The arms alternate in running first. The first calls, and those after a pause, are not counted.
# Energy is measured every `ENERGY_EVERY` seconds, each arm in a block of its own in which it repeats a call.

WARM_UP = 2  # calls of either arm that are not counted, at the start and after every pause
IDLE = 60.0  # seconds without a look after which a live run ends
ENERGY_EVERY = 10.0  # seconds from one measurement of energy to the next
GLANCE = 0.5  # seconds between looks at the clock during a pause
ALIVE = ("ready", "warming up", "running", "paused")


@dataclass(frozen=True)
class Arms:
    """Early-exit model and full model as functions.

    Args:
        inputs: rows (n,) of the record → the images that both arms take, on their device. size: rows of a call.
        stage_ends: filled by every call of ``early`` with the times (`time.perf_counter`) at which its stages ended, in
            order; empty where that is not known.
        early: early-exit inference with a policy, begun (`Policy.begin`). full: (n,) labels of the last exit.
        joules: that the device has used since some moment (`energy_counter`); None where that is not known.

    Example:
        Arms that read a record instead of running a model:

        >>> import dmpo_explore as dx
        >>> record, policy = dx.load_run("demo").record("test"), dx.policies.ConfidencePolicy((0.9,))
        >>> def early(rows, policy):
        ...     outcome = dx.apply(policy, record.subset(rows))
        ...     return InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)
        >>> arms = Arms(lambda rows: rows, early, lambda rows: record.prediction[rows, -1], size=50)
        >>> len(arms.early(arms.inputs(np.arange(3)), policy).exit)
        3
    """

    inputs: Callable[[Ints], Any]
    early: Callable[[Any, Policy], InferenceResult]
    full: Callable[[Any], Ints]
    size: int
    stage_ends: list[float] = field(default_factory=list)
    joules: Counter | None = None


@dataclass(frozen=True)
class Look:
    """State and statistics of a live run at one moment.

    Args:
        state: ready, warming up, running or paused; at the end done, stopped, failed, or left (`look` not called).
        images: how many it will classify; None: until it is stopped. error: of a failed run.
        idle_watts: of the device before the first call; None where energy is not known.

    Example:
        >>> import dmpo_explore as dx
        >>> statistics = dx.inference.LiveStats(dx.load_run("demo").record("test"))
        >>> Look("paused", statistics.count(), images=200, error=None).alive
        True
    """

    state: str
    count: Count
    images: int | None
    error: Exception | None
    idle_watts: float | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs, or can continue."""
        return self.state in ALIVE


class LiveRun:
    """Early-exit inference and the full model on the same recorded images, in a thread of its own.

    Args:
        record: of the images, in the record's order. policy: fitted, for as many exits.
        images: how many to classify, in a fixed mixed order; None: repeatedly until it is stopped.
        queue: makes a context in which a call runs, e.g. a lock shared with other users of the model.
        clock: seconds, rising. idle: seconds without a call of `look` after which it ends.

    Raises:
        ValueError: a policy for another number of exits, or more images than were recorded.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.inference.live import Arms
        >>> record, policy = dx.load_run("demo").record("test"), dx.policies.ConfidencePolicy((0.9,))
        >>> def early(rows, policy):  # the record answers; `open_arms` makes arms of a model
        ...     outcome = dx.apply(policy, record.subset(rows))
        ...     return dx.InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)
        >>> arms = Arms(lambda rows: rows, early, lambda rows: record.prediction[rows, -1], size=50)
        >>> live = LiveRun(arms, record, policy, images=200)
        >>> live.start()
        >>> while live.look().alive:
        ...     pass
        >>> live.look().state, live.look().count.images, live.look().count.agreed
        ('done', 200, 200)
    """

    def __init__(
        self,
        arms: Arms,
        record: ExitRecord,
        policy: Policy,
        *,
        images: int | None = None,
        queue: Callable[[], AbstractContextManager[Any]] = nullcontext,
        clock: Callable[[], float] = time.perf_counter,
        idle: float = IDLE,
    ) -> None:
        policy.check(record.n_exits)
        if images is not None and not 1 <= images <= record.n_images:
            raise ValueError(f"images={images} must lie between 1 and the {record.n_images} that were recorded")
        self.images = images
        self._arms, self._record, self._queue, self._clock, self._idle = arms, record, queue, clock, idle
        self._order = np.random.default_rng(0).permutation(record.n_images)
        self._policy, self._stats = policy, LiveStats(record)
        self._decided, self._stream = policy, policy.begin()  # the policy of the last call that counted; its stream
        self._changed = threading.Condition()  # guards all that follows, and the statistics
        self._paused = self._stopped = False
        self._cold, self._looked = WARM_UP, clock()
        self._end = ""
        self._error: Exception | None = None
        self._idle_watts: float | None = None
        self._energy_due = -float("inf")
        self._thread = threading.Thread(target=self._work, name="live run", daemon=True)

    def start(self) -> None:
        """Start the thread; RuntimeError the second time."""
        self._thread.start()

    def pause(self) -> None:
        """Pause after the current call, until `resume`."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Continue, with a new warm-up."""
        with self._changed:
            self._paused, self._cold = False, WARM_UP
            self._changed.notify_all()

    def stop(self, wait: float = 0.0) -> None:
        """End after the current call; wait at most ``wait`` seconds for that."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if wait and self._thread.is_alive():
            self._thread.join(wait)

    def use(self, policy: Policy) -> None:
        """Use ``policy`` from the next call on; ValueError if it is for another number of exits."""
        policy.check(self._record.n_exits)
        with self._changed:
            self._policy = policy

    def look(self) -> Look:
        """State and statistics now; a run ends ``idle`` seconds after the last call of this method."""
        with self._changed:
            self._looked = self._clock()
            return Look(self._state(), self._stats.count(), self.images, self._error, self._idle_watts)

    @property
    def working(self) -> bool:
        """Whether it runs the model now; unlike `look`, reading this does not keep the run alive."""
        with self._changed:
            return self._state() in ("warming up", "running")

    def _state(self) -> str:
        if self._end:
            return self._end
        if not self._thread.is_alive():
            return "ready"
        if self._paused:
            return "paused"
        return "warming up" if self._cold else "running"

    def _work(self) -> None:
        try:
            end = self._answer_all()
        except Exception as error:
            end, self._error = "failed", without_frames(error)
        del self._arms  # the model with them: who shows the results may keep this for long
        with self._changed:
            self._end = end

    def _answer_all(self) -> str:
        done = calls = 0
        if self._arms.joules:
            with self._queue():
                self._idle_watts = idle_watts(self._arms.joules)
        while not (end := self._interrupted()):
            rows = self._rows(done)
            if not rows.size:
                return "done"
            with self._changed:
                policy, cold = self._policy, self._cold > 0
            call = self._call(rows, policy, full_first=calls % 2 == 1, cold=cold)
            calls += 1
            with self._changed:
                if cold:  # the same rows again
                    self._cold -= 1
                    continue
                self._stats.add(call)
            done += len(rows)
        return end

    def _interrupted(self) -> str:
        """Wait while paused; the state in which it ends, or an empty text if it continues."""
        with self._changed:
            while True:
                if self._stopped:
                    return "stopped"
                if self._clock() - self._looked > self._idle:
                    return "left"
                if not self._paused:
                    return ""
                self._changed.wait(GLANCE)

    def _rows(self, done: int) -> Ints:
        if self.images is None:
            return self._order[(done + np.arange(self._arms.size)) % len(self._order)]
        return self._order[done : min(done + self._arms.size, self.images)]

    def _call(self, rows: Ints, policy: Policy, *, full_first: bool, cold: bool) -> Call:
        inputs = self._arms.inputs(rows)
        stream = self._stream if policy == self._decided else policy.begin()
        aside = deepcopy(stream)  # for calls that do not count, as a held policy remembers its images
        if not cold:
            self._decided, self._stream = policy, stream
        if full_first:
            full, full_s, _ = self._timed(lambda: self._arms.full(inputs))
        early, early_s, start = self._timed(lambda: self._arms.early(inputs, aside if cold else stream))
        stages = tuple(end - start for end in self._arms.stage_ends)
        if not full_first:
            full, full_s, _ = self._timed(lambda: self._arms.full(inputs))
        energy: tuple[float | None, ...] = (None, None)
        if not cold:
            energy = self._energy(lambda: self._arms.early(inputs, aside), lambda: self._arms.full(inputs))
        return Call(rows, policy, early, full, early_s, full_s, stages, *energy)

    def _timed(self, function: Callable[[], Any]) -> tuple[Any, float, float]:
        """Result, seconds, and when it began."""
        with self._queue():
            start = self._clock()
            result = function()
            return result, self._clock() - start, start

    def _energy(self, *arms: Callable[[], object]) -> tuple[float | None, ...]:
        """Joules of a call of each arm; None where they are not known, or not measured now."""
        joules = self._arms.joules
        if joules is None or self._clock() < self._energy_due:
            return (None,) * len(arms)
        with self._queue():
            found = tuple(call_energy(arm, joules, self._clock).joules for arm in arms)
        self._energy_due = self._clock() + ENERGY_EVERY
        return found


def without_frames(error: Exception) -> Exception:
    """``error``, and those before it, without tracebacks, whose frames hold model, images and activations."""
    one: BaseException | None = error
    while one is not None and one.__traceback__ is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


# Arms of a live run on this machine: early-exit model and full model; importing this file imports no torch.

ENGINES = {"infer": 1, "stream": 4, "onnx": 1}  # name → batches in a call
ONNX_PRECISIONS = ("no", "int8")  # no: float32


def open_arms(
    run: Run, split: str, model: DMPO, batch_size: int, engine: str = "infer", *, precision: str = "no"
) -> Arms:
    """Early-exit arm and full-model arm of ``model``, fastest with its tuning merged.

    Args:
        engine: ``infer`` classifies a batch, ``stream`` four with refill (`torch_engine.stream`), so that deep stages
            run on fuller batches. The full model classifies the same images, batch by batch. ``onnx`` classifies a
            batch with onnxruntime on the CPU (`OnnxEngine`); its full model runs the predictors of all exits too.
        precision: of both arms: ``no`` (float32), ``bf16`` or ``fp16`` autocast, fastest for a model that was loaded
            with it; of ``onnx`` ``no`` or ``int8``.

    The arms raise MemoryError where a batch does not fit into a GPU's memory; it names a batch size that does.

    Raises:
        ValueError: unknown engine or precision, another than the model's weights were cast to, a batch size below 1,
            or what `Run.image_set` raises; FileNotFoundError as there. With ``onnx`` as `export_run`, with ``int8`` as
            `export_int8`.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> arms = open_arms(run, "test", run.model(merge=True), batch_size=64)  # doctest: +SKIP
    """
    import torch

    from ..data.torch_loaders import make_transform
    from .torch_engine import PRECISIONS, precision_of

    batches = lookup(ENGINES, engine, "engine")
    if engine == "onnx" and precision not in ONNX_PRECISIONS:
        raise ValueError(f"precision={precision!r}: the engine 'onnx' runs in float32 ('no') or 'int8'")
    if engine != "onnx":
        lookup(PRECISIONS, precision_of(model, precision), "precision")
    image_set, transform = run.image_set(split), make_transform(model.preprocess)

    def inputs(rows: Ints) -> Tensor:
        return torch.stack([transform(image_set[row]) for row in rows.tolist()])

    if engine == "onnx":
        return _onnx_arms(run, inputs, batch_size, precision)
    return _torch_arms(model, inputs, batch_size, batches, precision)


def _torch_arms(model: DMPO, inputs: Callable[[Ints], Tensor], batch_size: int, batches: int, precision: str) -> Arms:
    import torch

    from .torch_engine import autocast, infer, plain_steps, stream

    device, ends = model.device, list[float]()
    wait = None if device.type == "cpu" else partial(torch.accelerator.synchronize, device)
    steps = timed_steps(plain_steps(model), ends, wait) if batches == 1 else plain_steps(model)

    def on_device(rows: Ints) -> Tensor:
        images = inputs(rows)
        with suppress(torch.OutOfMemoryError):  # then the arms find what fits
            images = images.to(device)
        if wait:  # the copy is no part of a call
            wait()
        return images

    def early(images: Tensor, policy: Policy) -> InferenceResult:
        ends.clear()
        if batches == 1:
            return infer(model, images, policy, precision=precision, steps=steps)
        parts = torch.split(images, batch_size)
        return stream(model, parts, policy, refill=True, precision=precision, steps=steps)

    def full(images: Tensor) -> Ints:
        with autocast(device, precision):
            return np.concatenate([to_the_end(model, batch) for batch in torch.split(images, batch_size)])

    def whole(arm: Callable[[Tensor], Any], images: Tensor) -> Any:
        return in_memory(arm, images, batch_size, device)

    return Arms(
        on_device,
        lambda images, policy: whole(partial(early, policy=policy), images),
        partial(whole, full),
        batches * batch_size,
        ends,
        energy_counter(str(device)),
    )


def in_memory(arm: Callable[[Tensor], Any], images: Tensor, batch_size: int, device: torch.device) -> Any:
    """``arm(images)``; where the device's memory is too small for it, MemoryError with a batch size that fits."""
    import torch

    def tried(n: int) -> Any:
        with suppress(torch.OutOfMemoryError):  # which holds the frames that hold the tensors
            return arm(images[:n])
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    if (result := tried(len(images))) is not None:
        return result
    fits = batch_size // 2
    while fits and tried(fits) is None:
        fits //= 2
    if device.type == "cuda":
        torch.cuda.empty_cache()
    advice = f"batches of {fits} do" if fits else "one image does not, either: choose the CPU, or end what else uses it"
    raise MemoryError(f"batches of {batch_size} images do not fit into the memory of {device}; {advice}")


def _onnx_arms(run: Run, inputs: Callable[[Ints], Tensor], batch_size: int, precision: str) -> Arms:
    from .onnx_engine import OnnxEngine

    engine = OnnxEngine(exported(run, precision))

    def early(images: Tensor, policy: Policy) -> InferenceResult:
        return engine.infer(images.numpy(), policy)

    def full(images: Tensor) -> Ints:
        return np.asarray(engine.all_logits(images.numpy())[:, -1].argmax(-1))

    return Arms(inputs, early, full, batch_size)


def exported(run: Run, precision: str = "no") -> Path:
    """The folder in the cache with the run's export, made now unless a whole one of this version is there.

    Raises as `export_run`, with ``int8`` as `export_int8`.
    """
    from .torch_export import export_int8, export_run, is_exported

    kind = "-int8" if precision == "int8" else ""
    folder = cache_dir() / "exports" / f"{run.name}-{sha256(run.path / WEIGHTS)[:16]}{kind}"
    policy = POLICIES["confidence"]((POLICIES["confidence"].threshold_none,))  # live runs bring their own
    if not is_exported(run, folder, policy, precision="int8" if kind else "float32"):
        remove(folder)  # damaged, or of another version
        folder.parent.mkdir(parents=True, exist_ok=True)
        if kind:
            export_int8(run, folder, policy, images=0)
        else:
            export_run(run, folder, policy)
    return folder


def timed_steps(steps: Sequence[Step], ends: list[float], wait: Callable[[], object] | None = None) -> list[Step]:
    """``steps`` that also append the time at which each of them ended to ``ends``.

    Args:
        wait: called before the clock is read, for a device that works on its own.
    """

    def timed(step: Step) -> Step:
        def run(x: Any, side: Any) -> tuple[Any, Any, Any]:
            result = step(x, side)
            if wait is not None:
                wait()
            ends.append(time.perf_counter())
            return result

        return run

    return [timed(step) for step in steps]


def to_the_end(model: DMPO, images: Tensor) -> Ints:
    """(B,) labels of the last exit; no other exit runs: images (B,3,S,S) → embed, every trunk, the last predictor.

    The model is in eval mode.
    """
    import torch

    with torch.inference_mode():
        *_, last = model.walk(images.to(model.device))
        return np.asarray(last.logits.argmax(-1).cpu())


def load_average() -> float | None:
    """The system's load average: processes that ran or waited in the last minute; None if unknown.

    Example:
        >>> load = load_average()
        >>> load is None or load >= 0
        True
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
