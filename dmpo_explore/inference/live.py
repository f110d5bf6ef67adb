"""A live run: the engine answers a recorded split batch by batch, and the full model answers the same batches in turn.

In: two arms (`open_arms` makes them of a run's model), the record, a policy that may be exchanged at any time. Out:
`LiveRun.look`, what was counted so far (`tally`). The work is done in a thread of its own, which ends when it is told
to, at the end of the images, at an error (kept), or when nobody has looked for a while.

Ours: the full model is the same model, its other exits not asked. A call is timed from pictures that lie ready to the
answers on the host; the arms take turns in coming first; the first calls, and those behind a pause, are not counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..policies.base import Policy
from ..records.record import ExitRecord
from ..utils.typing import Ints
from .live_stats import Call, Count, Tally
from .loop import InferenceResult

if TYPE_CHECKING:
    pass

WARM_UP = 2  # calls of either arm that are not counted, at the start and behind every pause
IDLE = 60.0  # seconds without a look after which a live run ends
GLANCE = 0.5  # seconds between looks at the clock during a pause
ALIVE = ("ready", "warming up", "running", "paused")


@dataclass(frozen=True)
class Arms:
    """The two ways to answer.

    Args:
        inputs: rows (n,) of the record → what both arms take. size: rows of a call.
        early: stops where the policy says. full: (n,) labels of the last exit.
    """

    inputs: Callable[[Ints], Any]
    early: Callable[[Any, Policy], InferenceResult]
    full: Callable[[Any], Ints]
    size: int


@dataclass(frozen=True)
class Look:
    """Where a live run stands.

    Args:
        state: ready, warming up, running, paused; or for good: done, stopped, failed, left (nobody looked).
        images: that it shall answer; None: until it is stopped. error: what made it fail.
    """

    state: str
    count: Count
    images: int | None
    error: Exception | None

    @property
    def alive(self) -> bool:
        """Whether it works, or can go on."""
        return self.state in ALIVE


class LiveRun:
    """See the module.

    Args:
        record: of the images, in the record's order. policy: fitted, for as many exits.
        images: how many to answer, in a fixed mixed order; None: round and round until it is stopped.
        turn: a context that every call waits for, so that others can work in between.
        clock: seconds, rising. idle: seconds without a look after which it ends.

    Raises:
        ValueError: a policy for another number of exits, or more images than were recorded.
    """

    def __init__(
        self,
        arms: Arms,
        record: ExitRecord,
        policy: Policy,
        *,
        images: int | None = None,
        turn: Callable[[], AbstractContextManager[Any]] = nullcontext,
        clock: Callable[[], float] = time.perf_counter,
        idle: float = IDLE,
    ) -> None:
        policy.check(record.n_exits)
        if images is not None and not 1 <= images <= record.n_images:
            raise ValueError(f"images={images} must lie between 1 and the {record.n_images} that were recorded")
        self.images = images
        self._arms, self._record, self._turn, self._clock, self._idle = arms, record, turn, clock, idle
        self._order = np.random.default_rng(0).permutation(record.n_images)
        self._policy, self._tally = policy, Tally(record)
        self._changed = threading.Condition()  # guards all that follows, and the tally
        self._paused = self._stopped = False
        self._cold, self._looked = WARM_UP, clock()
        self._end = ""
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="live run", daemon=True)

    def start(self) -> None:
        """Begin; RuntimeError the second time."""
        self._thread.start()

    def pause(self) -> None:
        """Do nothing after the call that is under way, until `resume`."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Go on, with a new warm-up."""
        with self._changed:
            self._paused, self._cold = False, WARM_UP
            self._changed.notify_all()

    def stop(self, wait: float = 0.0) -> None:
        """End after the call that is under way; wait for that for at most ``wait`` seconds."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if wait and self._thread.is_alive():
            self._thread.join(wait)

    def use(self, policy: Policy) -> None:
        """Let ``policy`` decide from the next call on; ValueError if it is for another number of exits."""
        policy.check(self._record.n_exits)
        with self._changed:
            self._policy = policy

    def look(self) -> Look:
        """Where it stands now; who looks keeps it alive."""
        with self._changed:
            self._looked = self._clock()
            return Look(self._state(), self._tally.count(), self.images, self._error)

    @property
    def working(self) -> bool:
        """Whether it asks the model now and then; who asks this does not look."""
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
            end, self._error = "failed", error
        with self._changed:
            self._end = end

    def _answer_all(self) -> str:
        done = calls = 0
        while not (end := self._interrupted()):
            rows = self._rows(done)
            if not rows.size:
                return "done"
            call = self._call(rows, full_first=calls % 2 == 1)
            calls += 1
            with self._changed:
                if self._cold:  # the same rows again
                    self._cold -= 1
                    continue
                self._tally.add(call)
            done += len(rows)
        return end

    def _interrupted(self) -> str:
        """Waits while it is paused; how it ends, or nothing where it goes on."""
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

    def _call(self, rows: Ints, *, full_first: bool) -> Call:
        policy, inputs = self._policy, self._arms.inputs(rows)
        if full_first:
            full, full_s = self._timed(lambda: self._arms.full(inputs))
        early, early_s = self._timed(lambda: self._arms.early(inputs, policy))
        if not full_first:
            full, full_s = self._timed(lambda: self._arms.full(inputs))
        return Call(rows, policy, early, full, early_s, full_s)

    def _timed(self, function: Callable[[], Any]) -> tuple[Any, float]:
        with self._turn():
            start = self._clock()
            result = function()
            return result, self._clock() - start
