"""A live run does what it is told, counts what it did, and ends; with a real model it leaves where the record says."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from background import ended, until
from devices import Operations
from small_model import C, K, made, pictures
from synthetic import between, make_meta, make_record, ready_policy
from tiny import recorded_run, tiny_config

from dmpo_explore import ExitRecord, InferenceResult, Policy, load_images, record_split
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.inference.live import (
    CALLS,
    ENGINES,
    SHOWN,
    WARM_UP,
    Arms,
    Call,
    Latency,
    LiveRun,
    LiveStats,
    exported,
    open_arms,
    to_the_end,
)
from dmpo_explore.models.predictors import cast_products
from dmpo_explore.policies import ConfidencePolicy, PatiencePolicy, RunningPolicy

TWO_HUNDRED = make_record(200)
POLICY = ConfidencePolicy((0.6,))


def call_of(
    rows: Any, policy: Policy = POLICY, early_s: float = 1.0, full_s: float = 2.0, record: ExitRecord = TWO_HUNDRED
) -> Call:
    """A call that gives what the record says."""
    rows = np.asarray(rows)
    part = record.subset(rows)
    exits = policy.exits(part)
    at = np.arange(len(rows)), exits
    early = InferenceResult(exits, part.prediction[at].astype(np.int64), part.confidence[at])
    return Call(rows, policy, early, part.prediction[:, -1].astype(np.int64), early_s, full_s)


def test_nothing_yet() -> None:
    count = LiveStats(TWO_HUNDRED).count()
    assert (count.images, count.agreed, count.policy, count.measured) == (0, 0, None, None)
    assert count.last == count.timeline == count.moves == count.disagreements == ()


def test_sums_and_shares_are_the_records() -> None:
    stats = LiveStats(TWO_HUNDRED)
    for start in range(0, 200, 50):
        stats.add(call_of(range(start, start + 50)))
    count = stats.count()
    assert (count.images, count.agreed, count.full_agreed) == (200, 200, 200)
    m = count.measured
    assert m is not None and m.calls == 4
    exits = POLICY.exits(TWO_HUNDRED)
    assert m.exits == tuple(np.bincount(exits, minlength=4))
    assert m.accuracy == TWO_HUNDRED.correct[np.arange(200), exits].mean()
    assert m.full_accuracy == TWO_HUNDRED.correct[:, -1].mean()
    assert m.expected_speed_up == pytest.approx(1 / TWO_HUNDRED.flops_fraction[exits].mean())
    assert (m.early.rate, m.full.rate, m.speed_up) == (50.0, 25.0, 2.0)
    assert [point.answered for point in count.timeline] == [50, 100, 150, 200]
    assert count.timeline[-1].shares == pytest.approx(np.array(m.exits) / 200)
    assert sum(count.timeline[0].shares) == pytest.approx(1)
    assert (count.timeline[0].early, count.timeline[0].full) == (50.0, 25.0)


def test_speed_is_a_ratio_of_sums_and_its_spread_one_of_calls() -> None:
    stats, early, full = LiveStats(TWO_HUNDRED), [1.0, 1.0, 1.0, 5.0], [2.0, 3.0, 4.0, 5.0]
    for i in range(4):
        stats.add(call_of(range(10 * i, 10 * i + 10), early_s=early[i], full_s=full[i]))
    m: Any = stats.count().measured
    assert m.speed_up == pytest.approx(14 / 8)
    assert (m.low, m.high) == pytest.approx(tuple(np.quantile([2, 3, 4, 1], (0.1, 0.9))))
    assert (m.early.p50, m.early.p95) == pytest.approx(tuple(np.quantile(early, (0.5, 0.95))))
    assert (m.full.p50, m.full.p95) == pytest.approx(tuple(np.quantile(full, (0.5, 0.95))))


def test_a_smaller_call_counts_for_the_rate_but_not_for_the_latency() -> None:
    stats = LiveStats(TWO_HUNDRED)
    stats.add(call_of(range(10), early_s=1.0))
    stats.add(call_of(range(10, 13), early_s=0.1))
    m = stats.count().measured
    assert m is not None and m.early.p50 == m.early.p95 == 1.0
    assert (m.low, m.high) == pytest.approx(tuple(np.quantile([2, 20], (0.1, 0.9))))  # for the ratio all calls count
    assert m.early.images == 13 and m.early.seconds == pytest.approx(1.1)


def test_another_policy_begins_a_stretch_and_agreement_goes_on() -> None:
    stats, other = LiveStats(TWO_HUNDRED), ConfidencePolicy((0.95,))
    stats.add(call_of(range(100)))
    stats.add(call_of(range(100, 150), other, early_s=4.0))
    count = stats.count()
    assert (count.images, count.agreed, count.policy) == (150, 150, other)
    m = count.measured
    assert m is not None and m.early.images == sum(m.exits) == 50 and m.early.rate == 12.5
    assert m.exits == tuple(np.bincount(other.exits(TWO_HUNDRED)[100:150], minlength=4))
    assert count.moves == ((0, POLICY), (100, other))
    stats.add(call_of(range(150, 160), replace(other, fitted={"split": "val"})))  # the same rule
    assert len(stats.count().moves) == 2


def test_who_leaves_elsewhere_is_kept_with_the_distance_of_its_score() -> None:
    stats, call = LiveStats(TWO_HUNDRED), call_of(range(20, 60))
    exits, labels = call.early.exit.copy(), call.early.label.copy()
    later = int(np.flatnonzero(exits == 0)[0])
    sooner = int(np.flatnonzero(exits == 2)[0])
    renamed = int(np.flatnonzero(exits == 3)[0])
    exits[later], exits[sooner] = 1, 1
    labels[later], labels[sooner] = TWO_HUNDRED.prediction[20 + later, 1], TWO_HUNDRED.prediction[20 + sooner, 1]
    labels[renamed] = (labels[renamed] + 1) % 5
    stats.add(replace(call, early=InferenceResult(exits, labels, call.early.confidence)))
    count = stats.count()
    assert (count.images, count.agreed, count.full_agreed) == (40, 37, 40)
    found = {one.row - 20: one for one in count.disagreements}
    assert set(found) == {later, sooner, renamed}
    assert (found[later].exit, found[later].recorded_exit) == (1, 0)
    assert (found[sooner].exit, found[sooner].recorded_exit) == (1, 2)
    threshold = float(np.float32(0.6))
    assert found[later].distance == pytest.approx(abs(TWO_HUNDRED.confidence[20 + later, 0] - threshold))
    assert found[sooner].distance == pytest.approx(abs(TWO_HUNDRED.confidence[20 + sooner, 1] - threshold))
    assert found[renamed].distance is None and found[renamed].exit == found[renamed].recorded_exit == 3
    assert found[renamed].label != found[renamed].recorded_label


def test_the_full_models_answers_are_compared_too() -> None:
    stats, call = LiveStats(TWO_HUNDRED), call_of(range(10))
    full = call.full.copy()
    full[3] = (full[3] + 1) % 5
    stats.add(replace(call, full=full))
    assert (stats.count().agreed, stats.count().full_agreed) == (10, 9)


@pytest.mark.parametrize("policy", [PatiencePolicy((2,)), ready_policy("budgeted", 0.5), ready_policy("random", 0.5)])
def test_any_policy_is_held_against_the_record(policy: Policy) -> None:
    stats, call = LiveStats(TWO_HUNDRED), call_of(range(30, 70), policy)
    stats.add(call)
    assert stats.count().agreed == 40
    exits = np.where(call.early.exit == 0, 1, 0)
    stats.add(replace(call, early=InferenceResult(exits, call.early.label, call.early.confidence)))
    assert stats.count().agreed == 40
    distances = [one.distance for one in stats.count().disagreements]
    assert distances and all(distance is not None for distance in distances)


def test_the_last_answers_come_newest_first() -> None:
    stats = LiveStats(TWO_HUNDRED)
    stats.add(call_of(range(50)))
    last = stats.count().last
    assert [one.row for one in last] == list(range(49, 49 - SHOWN, -1))
    exit = int(POLICY.exits(TWO_HUNDRED)[49])
    assert (last[0].exit, last[0].label) == (exit, TWO_HUNDRED.prediction[49, exit])
    assert last[0].confidence == pytest.approx(float(TWO_HUNDRED.confidence[49, exit]))


def test_memory_is_bounded() -> None:
    stats = LiveStats(TWO_HUNDRED)
    for i in range(CALLS + 50):
        call = call_of([i % 200], ConfidencePolicy((i % 50 / 50,)))
        stats.add(replace(call, early=replace(call.early, label=call.early.label + 1)))
    count = stats.count()
    assert len(count.timeline) == CALLS and count.timeline[-1].answered == count.images == CALLS + 50
    assert len(count.last) == len(count.moves) == len(count.disagreements) == SHOWN
    assert count.agreed == 0 and count.moves[-1][0] == CALLS + 49


def test_a_single_exit_has_nothing_to_gain() -> None:
    record = make_record(30, n_exits=1)
    stats, nobody = LiveStats(record), ConfidencePolicy((ConfidencePolicy.threshold_none,))
    stats.add(call_of(range(30), nobody, 2.0, 2.0, record))
    m = stats.count().measured
    assert m is not None and m.exits == (30,) and m.speed_up == 1.0 and stats.count().agreed == 30


def test_latency_is_that_of_the_stage_where_images_exit() -> None:
    stats, exits = LiveStats(TWO_HUNDRED), POLICY.exits(TWO_HUNDRED)
    stats.add(replace(call_of(range(100)), stage_s=(0.1, 0.2, 0.3, 0.4)))
    stats.add(replace(call_of(range(100, 200)), stage_s=(0.5, 0.6, 0.7, 0.8)))
    m = stats.count().measured
    assert m is not None and [sum(one.images) for one in m.latency] == list(m.exits)
    first = (exits[:100] == 0).sum(), (exits[100:] == 0).sum()
    assert m.latency[0] == Latency((0.1, 0.5), (int(first[0]), int(first[1])))
    assert m.latency[0].mean == pytest.approx((0.1 * first[0] + 0.5 * first[1]) / sum(first))
    without = LiveStats(TWO_HUNDRED)
    without.add(call_of(range(50)))
    measured = without.count().measured
    assert measured is not None and measured.latency == ()


RECORD = make_record(100)
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


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: Bench().run(images=101), "images=101 must lie between 1 and the 100"),
        (lambda: Bench().run(images=0), "images=0"),
        (lambda: Bench().run(ConfidencePolicy((0.5, 0.6))), "2 thresholds; 4 exits"),
        (lambda: Bench().run().use(ConfidencePolicy((0.5, 0.6))), "2 thresholds; 4 exits"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def test_one_that_was_stopped_ends_at_once_and_starts_once() -> None:
    live = Bench().run()
    live.stop()
    live.start()
    assert ended(live).state == "stopped"
    with pytest.raises(RuntimeError):
        live.start()


@pytest.fixture(scope="module")
def real() -> SimpleNamespace:
    """A small model, pictures of as many classes, what it said about them, and a run that has the pictures."""
    model, found = made(), load_images("digits", "test")
    found = found.subset(found.labels < C)
    meta = make_meta(len(found), K, C, exits=model.exits)
    record = record_split(model, make_loader(found, model.preprocess, batch_size=16), meta)
    run = SimpleNamespace(image_set=lambda split: {"test": found}[split])
    return SimpleNamespace(model=model, pictures=found, record=record, run=run)


@pytest.mark.parametrize("engine", ["infer", "stream"])
def test_a_real_model_leaves_where_the_record_says_while_the_threshold_moves(real: Any, engine: str) -> None:
    frozen, base = (ConfidencePolicy((between(real.record.confidence[:, :-1], share),)) for share in (0.3, 0.7))
    policies = [frozen, RunningPolicy(base=base, shares=(0.4,) * (K - 1), window=7)]
    arms = open_arms(real.run, "test", real.model, 8, engine)
    assert arms.size == 8 * ENGINES[engine]
    live = LiveRun(arms, real.record, policies[0])
    live.start()
    until(live, lambda look: look.count.images > 40)
    live.use(policies[1])
    until(live, lambda look: len(look.count.moves) == 2)
    live.stop(wait=20)
    count = ended(live).count
    assert count.agreed == count.full_agreed == count.images > 40 and not count.disagreements
    assert count.policy == policies[1] and count.measured is not None
    latency = count.measured.latency
    assert [sum(one.images) for one in latency] == (list(count.measured.exits) if engine == "infer" else [])
    assert all(0 < s <= count.measured.early.seconds for one in latency for s in one.seconds)
    assert count.measured.speed_up > 0 and count.measured.early.p95 >= count.measured.early.p50 > 0


@pytest.mark.parametrize("place", ["tokens", "images"])
@pytest.mark.parametrize("engine", ["infer", "stream"])
def test_what_does_not_fit_says_what_does(real: Any, engine: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that has room for the tokens of five images, or for no more than five images themselves."""
    policy = ConfidencePolicy((1.01,))
    arms = open_arms(real.run, "test", real.model, 16, engine)
    whole, name = (real.model.embed, "forward") if place == "tokens" else (torch.Tensor, "to")
    unlimited = getattr(whole, name)

    def small(images: torch.Tensor, *how: Any, **more: Any) -> torch.Tensor:
        if images.ndim == 4 and len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return unlimited(images, *how, **more)  # type: ignore[no-any-return]

    monkeypatch.setattr(whole, name, small)
    images = arms.inputs(np.arange(arms.size))
    for arm in (lambda: arms.early(images, policy), lambda: arms.full(images)):
        with pytest.raises(
            MemoryError, match="^batches of 16 images do not fit into .* cpu; batches of 4 do$"
        ) as caught:
            arm()
        assert caught.value.__context__ is None  # which would hold the tensors
    live = LiveRun(arms, real.record, policy)
    live.start()
    assert isinstance(ended(live).error, MemoryError)


def test_a_model_loaded_in_bf16_casts_no_weight_again(real: Any) -> None:
    policy, casts = ConfidencePolicy((1.01,)), []
    for cast_once in (False, True):
        model = made()
        layers = cast_products(model, torch.bfloat16) if cast_once else 0
        model.precision = "bf16" if cast_once else "no"
        arms = open_arms(real.run, "test", model, 8, precision="bf16")
        images = arms.inputs(np.arange(8))
        with Operations() as ran:
            arms.early(images, policy)
        casts.append(ran.names.count("to"))
    assert casts[0] - casts[1] >= layers > 10
    with pytest.raises(ValueError, match="precision='no', but the model's weights are bf16"):
        open_arms(real.run, "test", model, 8)


@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_the_full_model_gives_the_last_exits_answers(bypass: str) -> None:
    model, images = made(bypass=bypass), pictures(6)
    with torch.inference_mode():
        expected = model(images)[:, -1].argmax(-1).numpy()
    np.testing.assert_array_equal(to_the_end(model, images), expected)


def test_the_full_model_asks_no_other_exit() -> None:
    model, asked = made(), list[int]()
    for k, stage in enumerate(model.stages):
        stage.predictor.register_forward_pre_hook(lambda *_, k=k: asked.append(k))  # type: ignore[misc]
    to_the_end(model, pictures(2))
    assert asked == [K - 1]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"engine": "tpu"}, "unknown engine 'tpu'"),
        ({"precision": "int8"}, "unknown precision 'int8'"),
        (
            {"engine": "onnx", "precision": "bf16"},
            "precision='bf16': the engine 'onnx' runs in float32 .* or 'int8'",
        ),
    ],
)
def test_arms_refuse_what_is_not_there(real: Any, how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_arms(real.run, "test", real.model, **{"batch_size": 8} | how)


def test_inputs_are_the_pictures_at_the_rows(real: Any) -> None:
    inputs = open_arms(real.run, "test", real.model, 8).inputs(np.array([5, 2]))
    assert inputs.shape == (2, 3, 32, 32)
    batch, _ = next(iter(make_loader(real.pictures, real.model.preprocess, batch_size=6)))
    assert torch.equal(inputs[0], batch[5]) and torch.equal(inputs[1], batch[2])


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_an_export_in_the_cache_is_made_again_unless_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    run = recorded_run(tmp_path, tiny_config(epochs=1))
    folder = exported(run)
    facts = folder / "model.json"
    made_at = facts.stat().st_mtime_ns
    assert exported(run) == folder and facts.stat().st_mtime_ns == made_at
    for damaged in ("stage-1.onnx", "model.json"):
        whole = (folder / damaged).read_bytes()
        (folder / damaged).write_bytes(b"half")
        assert exported(run) == folder and (folder / damaged).read_bytes() == whole
