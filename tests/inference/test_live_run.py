"""A live run does what it is told, counts what it did, and ends; with a real model it leaves where the record says."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from live_looks import ended, until
from synthetic import make_record

from dmpo_explore.inference.exit_loop import InferenceResult
from dmpo_explore.inference.live import CALLS, WARM_UP, Arms, LiveRun
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.policies.running import RunningPolicy

RECORD = make_record(100)
POLICY = ConfidencePolicy((0.6,))
FOREVER = float("inf")


@dataclass
class Bench:
    """Arms that read the record; a clock that only they move: one second for the early arm, three for the full one.

    ``allowed``: calls of the early arm that may go on; a thread waits for more. ``begun``: calls of it.
    """

    size: int = 10
    allowed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(10_000))
    now: float = 0.0
    log: list[str] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    failing: Exception | None = None
    begun: int = 0

    def early(self, rows: Any, policy: Policy) -> InferenceResult:
        self.begun += 1
        assert self.allowed.acquire(timeout=20)
        if self.failing:
            raise self.failing
        self.log.append("early")
        self.rows.append(rows)
        self.now += 1.0 if len(self.log) > 2 * WARM_UP else 50.0  # cold
        part = RECORD.subset(rows)
        exits = policy.exits(part)
        at = np.arange(len(rows)), exits
        return InferenceResult(exits, part.prediction[at].astype(np.int64), part.confidence[at])

    def full(self, rows: Any) -> Any:
        self.log.append("full")
        self.now += 3.0
        return RECORD.prediction[rows, -1].astype(np.int64)

    def run(self, policy: Policy = POLICY, **options: Any) -> LiveRun:
        arms = Arms(lambda rows: rows, self.early, self.full, self.size)
        return LiveRun(arms, RECORD, policy, **{"clock": lambda: self.now, "idle": FOREVER} | options)


def gated() -> Bench:
    """No call of the early arm begins before ``allowed.release()``."""
    return Bench(allowed=threading.Semaphore(0))


def test_every_image_is_answered_once_and_then_it_is_done() -> None:
    bench = Bench()
    live = bench.run(images=95)
    assert live.look().state == "ready" and not live.working
    live.start()
    look = ended(live)
    assert look.state == "done" and look.error is None and look.images == 95
    count = look.count
    assert (count.images, count.agreed, count.full_agreed) == (95, 95, 95)
    rows = np.concatenate(bench.rows[WARM_UP:])
    assert len(set(rows.tolist())) == 95 and not np.array_equal(rows, np.sort(rows))  # mixed
    assert [len(rows) for rows in bench.rows] == [10] * (WARM_UP + 9) + [5]
    assert count.measured is not None
    assert count.measured.exits == tuple(np.bincount(POLICY.exits(RECORD)[rows], minlength=4))


def test_a_kept_error_holds_no_tensor() -> None:
    """Tracebacks hold frames, and frames the model, its inputs and what it has computed."""

    class Activations:
        pass

    held: list[weakref.ref[Activations]] = []

    def early(rows: Any, policy: Policy) -> InferenceResult:
        mine = Activations()
        held.append(weakref.ref(mine))
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise RuntimeError("outer") from inner

    live = LiveRun(Arms(lambda rows: rows, early, lambda rows: rows, 10), RECORD, POLICY)
    live.start()
    look = ended(live)
    assert look.state == "failed" and str(look.error) == "outer"
    live.stop(wait=20)
    assert [one() for one in held] == [None]


def test_warm_up_is_not_counted_and_the_arms_take_turns_in_coming_first() -> None:
    bench = Bench()
    live = bench.run(images=50)
    live.start()
    m = ended(live).count.measured
    assert m is not None and m.calls == 5
    assert (m.early.rate, m.full.rate, m.speed_up) == pytest.approx((10.0, 10 / 3, 3.0))  # no 50 s of a cold one
    assert (m.low, m.high, m.early.p95, m.full.p50) == pytest.approx((3.0, 3.0, 1.0, 3.0))
    assert bench.log[:8] == ["early", "full", "full", "early"] * 2 and len(bench.log) == 2 * (WARM_UP + 5)
    assert all(np.array_equal(rows, bench.rows[0]) for rows in bench.rows[: WARM_UP + 1])


def test_held_shares_go_on_from_call_to_call_and_calls_that_do_not_count_leave_them_alone() -> None:
    bench, held = Bench(), RunningPolicy(base=POLICY, shares=(0.3, 0.3, 0.3), window=7)
    live = bench.run(held, images=100)
    live.start()
    count = ended(live).count
    exits = held.exits(RECORD.subset(np.concatenate(bench.rows[WARM_UP:])))
    assert count.measured is not None and count.measured.exits == tuple(np.bincount(exits, minlength=4))
    assert count.agreed == count.images == 100


def test_until_it_is_stopped_it_goes_round_in_bounded_memory() -> None:
    bench = Bench(size=30)
    live = bench.run(images=None)
    live.start()
    look = until(live, lambda look: look.count.images > 30 * (CALLS + 20))
    assert look.images is None and look.state == "running" and live.working
    assert len(look.count.timeline) == CALLS
    live.stop(wait=20)
    look = ended(live)
    assert look.state == "stopped" and look.count.agreed == look.count.images
    counted = np.bincount(np.concatenate(bench.rows[WARM_UP:]), minlength=100)
    assert counted.max() - counted.min() <= 1  # round and round
    at_end = len(bench.log)
    time.sleep(0.02)
    assert len(bench.log) == at_end


def test_a_pause_rests_and_is_followed_by_a_warm_up() -> None:
    bench = gated()
    live = bench.run()
    live.start()
    bench.allowed.release(WARM_UP + 3)
    until(live, lambda look: look.count.images == 30 and bench.begun == WARM_UP + 4)
    live.pause()
    assert live.look().state == "paused" and not live.working
    bench.allowed.release()  # the call that was under way
    until(live, lambda look: look.count.images == 40)
    bench.allowed.release(100)
    time.sleep(0.05)
    assert live.look().count.images == 40 and len(bench.log) == 2 * (WARM_UP + 4)
    live.resume()
    live.stop()
    assert ended(live).state == "stopped"

    bench = gated()
    live = bench.run(images=20)
    live.pause()
    live.start()
    live.resume()
    assert live.look().state == "warming up"
    bench.allowed.release(WARM_UP)
    until(live, lambda look: look.state == "running" and bench.begun == WARM_UP + 1)
    live.pause()
    bench.allowed.release()
    until(live, lambda look: look.count.images == 10)
    live.resume()
    assert live.look().state == "warming up"
    bench.allowed.release(WARM_UP + 1)
    assert ended(live).count.images == 20
    assert len(bench.rows) == 2 * WARM_UP + 2


def test_another_policy_decides_from_the_next_call_on() -> None:
    bench, other = gated(), ConfidencePolicy((0.99,))
    live = bench.run(images=100)
    live.start()
    bench.allowed.release(WARM_UP + 5)
    until(live, lambda look: look.count.images == 50)
    live.use(other)
    bench.allowed.release(100)
    count = ended(live).count
    assert (count.images, count.agreed, count.policy) == (100, 100, other)
    assert [policy for _, policy in count.moves] == [POLICY, other]
    assert count.moves[1][0] in (50, 60)  # a call may have been under way
    rows = np.concatenate(bench.rows[WARM_UP:])[count.moves[1][0] :]
    assert count.measured is not None
    assert count.measured.exits == tuple(np.bincount(other.exits(RECORD)[rows], minlength=4))


def test_an_error_is_kept_and_the_thread_ends() -> None:
    bench = gated()
    live = bench.run()
    live.start()
    bench.allowed.release(WARM_UP + 1)
    until(live, lambda look: look.count.images == 10)
    bench.failing = ValueError("exit 2 gave NaN or infinite logits")
    bench.allowed.release()
    look = ended(live)
    assert look.state == "failed" and look.error is bench.failing and look.count.images == 10


@pytest.mark.parametrize("paused", [False, True])
def test_when_nobody_looks_it_ends(paused: bool) -> None:
    bench = Bench()
    live = bench.run(images=None, idle=200.0)
    live.start()
    if paused:
        live.pause()
        bench.now += 201.0
    live._thread.join(20)  # without a look
    assert not live._thread.is_alive()
    assert live.look().state == "left"


def test_every_call_waits_for_its_turn_and_waiting_is_not_counted() -> None:
    bench, inside, depth = Bench(), [], [0]

    @contextmanager
    def turn() -> Iterator[None]:
        bench.now += 1000.0  # somebody else works
        depth[0] += 1
        inside.append(len(bench.log))
        yield
        depth[0] -= 1
        assert len(bench.log) == inside[-1] + 1  # one call, no more

    live = bench.run(images=30, queue=turn)
    live.start()
    look = ended(live)
    assert look.error is None and depth == [0] and len(inside) == len(bench.log) == 2 * (WARM_UP + 3)
    assert look.count.measured is not None and look.count.measured.early.seconds == pytest.approx(3.0)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="images=101 must lie between 1 and the 100"):
        Bench().run(images=101)
    with pytest.raises(ValueError, match="images=0"):
        Bench().run(images=0)
    with pytest.raises(ValueError, match="2 thresholds; 4 exits"):
        Bench().run(ConfidencePolicy((0.5, 0.6)))
    live = Bench().run()
    with pytest.raises(ValueError, match="2 thresholds; 4 exits"):
        live.use(ConfidencePolicy((0.5, 0.6)))
    live.stop()
    live.start()
    assert ended(live).state == "stopped"
    with pytest.raises(RuntimeError):
        live.start()
