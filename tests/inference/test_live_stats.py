"""What is counted is what happened: sums, quantiles, agreement, stretches, and no more memory than said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from synthetic import make_record, ready_policy

from dmpo_explore.inference.exit_loop import InferenceResult
from dmpo_explore.inference.live import CALLS, SHOWN, Call, Latency, LiveStats
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.rules import ConfidencePolicy, PatiencePolicy
from dmpo_explore.records.record import ExitRecord

RECORD = make_record(200)
POLICY = ConfidencePolicy((0.6,))


def made(
    rows: Any, policy: Policy = POLICY, early_s: float = 1.0, full_s: float = 2.0, record: ExitRecord = RECORD
) -> Call:
    """A call that gives what the record says."""
    rows = np.asarray(rows)
    part = record.subset(rows)
    exits = policy.exits(part)
    at = np.arange(len(rows)), exits
    early = InferenceResult(exits, part.prediction[at].astype(np.int64), part.confidence[at])
    return Call(rows, policy, early, part.prediction[:, -1].astype(np.int64), early_s, full_s)


def test_nothing_yet() -> None:
    count = LiveStats(RECORD).count()
    assert (count.images, count.agreed, count.policy, count.measured) == (0, 0, None, None)
    assert count.last == count.timeline == count.moves == count.disagreements == ()


def test_sums_and_shares_are_the_records() -> None:
    stats = LiveStats(RECORD)
    for start in range(0, 200, 50):
        stats.add(made(range(start, start + 50)))
    count = stats.count()
    assert (count.images, count.agreed, count.full_agreed) == (200, 200, 200)
    m = count.measured
    assert m is not None and m.calls == 4
    exits = POLICY.exits(RECORD)
    assert m.exits == tuple(np.bincount(exits, minlength=4))
    assert m.accuracy == RECORD.correct[np.arange(200), exits].mean()
    assert m.full_accuracy == RECORD.correct[:, -1].mean()
    assert m.expected_speed_up == pytest.approx(1 / RECORD.flops_fraction[exits].mean())
    assert (m.early.rate, m.full.rate, m.speed_up) == (50.0, 25.0, 2.0)
    assert [point.answered for point in count.timeline] == [50, 100, 150, 200]
    assert count.timeline[-1].shares == pytest.approx(np.array(m.exits) / 200)
    assert sum(count.timeline[0].shares) == pytest.approx(1)
    assert (count.timeline[0].early, count.timeline[0].full) == (50.0, 25.0)


def test_speed_is_a_ratio_of_sums_and_its_spread_one_of_calls() -> None:
    stats = LiveStats(RECORD)
    early, full = [1.0, 1.0, 1.0, 5.0], [2.0, 3.0, 4.0, 5.0]
    for i in range(4):
        stats.add(made(range(10 * i, 10 * i + 10), early_s=early[i], full_s=full[i]))
    m = stats.count().measured
    assert m is not None and m.speed_up == pytest.approx(14 / 8)
    assert (m.low, m.high) == pytest.approx(tuple(np.quantile([2, 3, 4, 1], (0.1, 0.9))))
    assert (m.early.p50, m.early.p95) == pytest.approx(tuple(np.quantile(early, (0.5, 0.95))))
    assert (m.full.p50, m.full.p95) == pytest.approx(tuple(np.quantile(full, (0.5, 0.95))))


def test_a_smaller_call_counts_for_the_rate_but_not_for_the_latency() -> None:
    stats = LiveStats(RECORD)
    stats.add(made(range(10), early_s=1.0))
    stats.add(made(range(10, 13), early_s=0.1))
    m = stats.count().measured
    assert m is not None and m.early.p50 == m.early.p95 == 1.0
    assert (m.low, m.high) == pytest.approx(tuple(np.quantile([2, 20], (0.1, 0.9))))  # for the ratio all calls count
    assert m.early.images == 13 and m.early.seconds == pytest.approx(1.1)


def test_another_policy_begins_a_stretch_and_agreement_goes_on() -> None:
    stats, other = LiveStats(RECORD), ConfidencePolicy((0.95,))
    stats.add(made(range(100)))
    stats.add(made(range(100, 150), other, early_s=4.0))
    count = stats.count()
    assert (count.images, count.agreed, count.policy) == (150, 150, other)
    m = count.measured
    assert m is not None and m.early.images == sum(m.exits) == 50 and m.early.rate == 12.5
    assert m.exits == tuple(np.bincount(other.exits(RECORD)[100:150], minlength=4))
    assert count.moves == ((0, POLICY), (100, other))
    stats.add(made(range(150, 160), replace(other, fitted={"split": "val"})))  # the same rule
    assert len(stats.count().moves) == 2


def test_who_leaves_elsewhere_is_kept_with_the_distance_of_its_score() -> None:
    stats, call = LiveStats(RECORD), made(range(20, 60))
    exits, labels = call.early.exit.copy(), call.early.label.copy()
    later = int(np.flatnonzero(exits == 0)[0])
    sooner = int(np.flatnonzero(exits == 2)[0])
    renamed = int(np.flatnonzero(exits == 3)[0])
    exits[later], exits[sooner] = 1, 1
    labels[later], labels[sooner] = RECORD.prediction[20 + later, 1], RECORD.prediction[20 + sooner, 1]
    labels[renamed] = (labels[renamed] + 1) % 5
    stats.add(replace(call, early=InferenceResult(exits, labels, call.early.confidence)))
    count = stats.count()
    assert (count.images, count.agreed, count.full_agreed) == (40, 37, 40)
    found = {one.row - 20: one for one in count.disagreements}
    assert set(found) == {later, sooner, renamed}
    assert (found[later].exit, found[later].recorded_exit) == (1, 0)
    assert (found[sooner].exit, found[sooner].recorded_exit) == (1, 2)
    threshold = float(np.float32(0.6))
    assert found[later].distance == pytest.approx(abs(RECORD.confidence[20 + later, 0] - threshold))
    assert found[sooner].distance == pytest.approx(abs(RECORD.confidence[20 + sooner, 1] - threshold))
    assert found[renamed].distance is None and found[renamed].exit == found[renamed].recorded_exit == 3
    assert found[renamed].label != found[renamed].recorded_label


def test_the_full_models_answers_are_compared_too() -> None:
    stats, call = LiveStats(RECORD), made(range(10))
    full = call.full.copy()
    full[3] = (full[3] + 1) % 5
    stats.add(replace(call, full=full))
    assert (stats.count().agreed, stats.count().full_agreed) == (10, 9)


@pytest.mark.parametrize("policy", [PatiencePolicy((2,)), ready_policy("budgeted", 0.5), ready_policy("random", 0.5)])
def test_any_policy_is_held_against_the_record(policy: Policy) -> None:
    stats, call = LiveStats(RECORD), made(range(30, 70), policy)
    stats.add(call)
    assert stats.count().agreed == 40
    exits = np.where(call.early.exit == 0, 1, 0)
    stats.add(replace(call, early=InferenceResult(exits, call.early.label, call.early.confidence)))
    assert stats.count().agreed == 40
    distances = [one.distance for one in stats.count().disagreements]
    assert distances and all(distance is not None for distance in distances)


def test_the_last_answers_come_newest_first() -> None:
    stats = LiveStats(RECORD)
    stats.add(made(range(50)))
    last = stats.count().last
    assert [one.row for one in last] == list(range(49, 49 - SHOWN, -1))
    exit = int(POLICY.exits(RECORD)[49])
    assert (last[0].exit, last[0].label) == (exit, RECORD.prediction[49, exit])
    assert last[0].confidence == pytest.approx(float(RECORD.confidence[49, exit]))


def test_memory_is_bounded() -> None:
    stats = LiveStats(RECORD)
    for i in range(CALLS + 50):
        call = made([i % 200], ConfidencePolicy((i % 50 / 50,)))
        stats.add(replace(call, early=replace(call.early, label=call.early.label + 1)))
    count = stats.count()
    assert len(count.timeline) == CALLS and count.timeline[-1].answered == count.images == CALLS + 50
    assert len(count.last) == len(count.moves) == len(count.disagreements) == SHOWN
    assert count.agreed == 0 and count.moves[-1][0] == CALLS + 49


def test_a_single_exit_has_nothing_to_gain() -> None:
    record = make_record(30, n_exits=1)
    stats, nobody = LiveStats(record), ConfidencePolicy((ConfidencePolicy.threshold_none,))
    stats.add(made(range(30), nobody, 2.0, 2.0, record))
    m = stats.count().measured
    assert m is not None and m.exits == (30,) and m.speed_up == 1.0 and stats.count().agreed == 30


def test_latency_is_that_of_the_stage_where_images_exit() -> None:
    stats, exits = LiveStats(RECORD), POLICY.exits(RECORD)
    stats.add(replace(made(range(100)), stage_s=(0.1, 0.2, 0.3, 0.4)))
    stats.add(replace(made(range(100, 200)), stage_s=(0.5, 0.6, 0.7, 0.8)))
    m = stats.count().measured
    assert m is not None and [sum(one.images) for one in m.latency] == list(m.exits)
    first = (exits[:100] == 0).sum(), (exits[100:] == 0).sum()
    assert m.latency[0] == Latency((0.1, 0.5), (int(first[0]), int(first[1])))
    assert m.latency[0].mean == pytest.approx((0.1 * first[0] + 0.5 * first[1]) / sum(first))
    without = LiveStats(RECORD)
    without.add(made(range(50)))
    measured = without.count().measured
    assert measured is not None and measured.latency == ()
