"""Live run: early-exit inference on a recorded split, batch by batch, compared with the full model on the same batches.

In: two arms (`open_arms` makes them from a run's model), the record, a policy that may be exchanged at any time.
Out: `LiveRun.look`, the live statistics so far. The work runs in a thread of its own. The thread ends when it is
stopped, at the end of the images, at an error (kept), or when `LiveRun.look` has not been called for a while.

Ours: the full model is the same model without its other exits. A call is timed from images in the device's memory to
labels on the host. The arms alternate in running first. The first calls, and those after a pause, are not counted.
Energy is measured every `ENERGY_EVERY` seconds, each arm in a block of its own in which it repeats a call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.typing import Ints
from .energy import Counter, call_energy, idle_watts
from .exit_loop import InferenceResult
from .live_stats import Call, Count, LiveStats

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
        >>> from dmpo_explore.inference.live_run import Arms
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
    """``error``, and those before it, without tracebacks, whose frames hold model, images and activations.

    Example:
        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError as caught:
        ...     without_frames(caught).__traceback__ is None
        True
    """
    one: BaseException | None = error
    while one is not None and one.__traceback__ is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error
