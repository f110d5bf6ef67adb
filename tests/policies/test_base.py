"""What every policy shares: thresholds, reading at a temperature, values that are compared, candidates as counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from synthetic import make_record

from dmpo_explore.policies.base import Policy, count_answers, count_reached
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.ranking import NEVER, CountPolicy, ScorePolicy
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy, FixedPolicy
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.scores import scores, tempered


def test_every_policy_is_a_rule_of_one_kind() -> None:
    kinds = {name: [k for k in (ScorePolicy, CountPolicy) if issubclass(kind, k)] for name, kind in POLICIES.items()}
    assert all(issubclass(kind, Policy) for kind in POLICIES.values())
    assert {name for name, found in kinds.items() if found == [CountPolicy]} == {"patience", "fixed", "oracle"}
    assert {name for name, found in kinds.items() if not found} == {"budgeted"}


def test_few_settings_are_listed() -> None:
    assert ConfidencePolicy.settings(4) is None
    assert POLICIES["patience"].settings(4) == [0, 1, 2, 3]
    assert POLICIES["fixed"].settings(4) == [1, 2, 3, 4]
    assert POLICIES["oracle"].settings(4) == [1, 2, 3, 4, 5]
    assert all(kind.threshold_none == NEVER for kind in POLICIES.values() if issubclass(kind, CountPolicy))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_reading_at_a_temperature(kind: Any) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32) * 4
    policy = EntropyPolicy((0.5,), temperatures=(1.0, 2.5))
    seen = policy.read(1, kind(logits), ("confidence",))
    expected = scores(tempered(logits, 2.5))
    np.testing.assert_allclose(np.asarray(seen["entropy"]), expected["entropy"], atol=1e-5)
    np.testing.assert_allclose(np.asarray(seen["confidence"]), expected["confidence"], atol=1e-6)
    plain = replace(policy, temperatures=()).read(1, kind(logits))
    np.testing.assert_array_equal(np.asarray(seen["prediction"]), np.asarray(plain["prediction"]))
    np.testing.assert_array_equal(np.asarray(plain["entropy"]), np.asarray(scores(kind(logits))["entropy"]))
    assert set(plain) == {"prediction", "entropy"}


def test_the_prediction_is_the_models_own() -> None:
    """Rounding to float16 can make two logits equal; the answer must not change by that."""
    logits = np.array([[8.0001, 8.0002]], np.float32)
    policy = ConfidencePolicy((0.5,), temperatures=(2.0,))
    assert policy.read(0, logits)["prediction"].tolist() == [1]


@pytest.mark.parametrize(
    ("policy", "record", "reason"),
    [
        (POLICIES["confidence"]((0.5,)), make_record(9, split="test"), None),
        (POLICIES["gate"]((0.5,)), make_record(9, split="test"), "must not learn from a test record"),
        (POLICIES["gate"]((POLICIES["gate"].threshold_none,)), make_record(9, split="test"), None),  # full depth
        (POLICIES["gate"]((0.5,)), make_record(9), "has not been fitted"),
        (POLICIES["margin"]((0.5,), temperatures=(2.0,) * 4), make_record(9, with_logits=False), "which need logits"),
        (POLICIES["margin"]((0.5,), temperatures=(2.0,) * 4), make_record(9).tempered((2.0,) * 4), None),
        (POLICIES["patience"]((1,), temperatures=(2.0,) * 4), make_record(9, with_logits=False), None),
        (POLICIES["margin"]((0.5, 0.6)), make_record(9), "2 thresholds; 4 exits need 1 or 3"),
    ],
)
def test_a_policy_states_why_it_is_unavailable(policy: Policy, record: ExitRecord, reason: str | None) -> None:
    found = policy.unavailable_reason(record)
    assert found is None if reason is None else reason in str(found)
    if reason is None:
        assert policy.exits(record).shape == (9,)


def test_a_tempered_record_is_tempered_once() -> None:
    record, temperatures = make_record(80), (2.0, 1.5, 1.0, 0.5)
    policy = POLICIES["entropy"]((0.8,), temperatures=temperatures)
    warm = record.tempered(temperatures)
    np.testing.assert_array_equal(policy.exits(warm), policy.exits(record))
    np.testing.assert_array_equal(policy.exits(warm.subset(range(40))), policy.exits(record)[:40])
    other = POLICIES["entropy"]((0.8,), temperatures=(1.0,) * 4)
    np.testing.assert_array_equal(other.exits(warm), other.exits(record))


def test_the_score_that_is_compared_as_it_is() -> None:
    found = {name: kind.compared_score() for name, kind in POLICIES.items()}
    assert [name for name, score in found.items() if score == name] == ["confidence", "entropy", "margin"]
    assert found["budgeted"] is found["gate"] is found["random"] is None


RECORD = make_record(60, n_exits=4, seed=3)


def naive(exits: npt.ArrayLike) -> list[list[int]]:
    """(K, 2) by a loop."""
    counts = [[0, 0] for _ in range(RECORD.n_exits)]
    for row, exit in enumerate(np.asarray(exits)):
        counts[exit][int(not RECORD.correct[row, exit])] += 1
    return counts


def test_answers_are_counted_by_exit_and_correctness() -> None:
    exits = np.random.default_rng(0).integers(RECORD.n_exits, size=RECORD.n_images)
    assert count_answers(RECORD, exits).tolist() == naive(exits)


def test_no_image_counts_nothing() -> None:
    nothing = RECORD.subset(np.zeros(0, np.int64))
    assert count_answers(nothing, np.zeros(0, np.int64)).tolist() == [[0, 0]] * RECORD.n_exits


@pytest.mark.parametrize("level", [0.0, 0.3, 0.6, 0.9, 1.01])
def test_an_image_exits_at_the_first_exit_that_reaches_the_level(level: float) -> None:
    """A value equal to the level reaches it."""
    values = np.round(np.random.default_rng(1).random((RECORD.n_images, RECORD.n_exits - 1)), 1)
    exits = [next((k for k, value in enumerate(row) if value >= level), RECORD.n_exits - 1) for row in values]
    found = count_reached(values, RECORD.correct, np.array([0.5, level]))
    assert found.shape == (2, RECORD.n_exits, 2)
    assert found[1].tolist() == naive(exits)


def test_candidates_count_every_image_once() -> None:
    found = ConfidencePolicy((0.5,)).candidates(RECORD)
    assert (found.exit_counts.sum(axis=1) == RECORD.n_images).all()
    for i in (0, len(found.thresholds) // 2, -1):
        exits = ConfidencePolicy((found.thresholds[i],)).exits(RECORD)
        assert found.exit_counts[i].tolist() == np.bincount(exits, minlength=RECORD.n_exits).tolist()
        assert found.correct[i] == np.array(naive(exits))[:, 0].sum()


def test_candidates_of_a_fixed_exit_are_the_exits() -> None:
    found = FixedPolicy((1,)).candidates(RECORD)
    assert found.thresholds.tolist() == [1, 2, 3, 4]
    assert found.exit_counts.tolist() == (np.eye(4, dtype=int) * RECORD.n_images).tolist()
    assert found.correct.tolist() == RECORD.correct.sum(axis=0).tolist()
