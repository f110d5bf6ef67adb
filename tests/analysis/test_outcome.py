"""An outcome has for every image what a loop over images finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, ready_policy

import dmpo_explore as dx
from dmpo_explore.analysis.metrics import Outcome, apply, overthinking, parts
from dmpo_explore.policies.catalogue import POLICIES


@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 5))
def test_every_image_is_looked_up_at_its_exit(seed: int, images: int, n_exits: int) -> None:
    record = make_record(images, n_exits, 3, seed)
    exits = np.random.default_rng(seed).integers(n_exits, size=images)
    outcome = Outcome(record, exits)
    for i, k in enumerate(exits):
        assert outcome.prediction[i] == record.prediction[i, k]
        assert outcome.confidence[i] == record.confidence[i, k]
        assert outcome.correct[i] == (record.prediction[i, k] == record.labels[i])
        assert outcome.flops_fraction[i] == record.flops_fraction[k]
        assert outcome.early_exit_error[i] == (not outcome.correct[i] and record.correct[i, -1])
        assert outcome.overthinking[i] == (not outcome.correct[i] and record.correct[i, :k].any())
    summary = outcome.summary()
    assert summary == dx.summarise(record, exits)
    assert summary["accuracy"] == outcome.correct.mean() and summary["too_early"] == outcome.early_exit_error.mean()
    assert summary["overthought"] == outcome.overthinking.mean() == overthinking(record, exits).mean()
    assert summary["flops_fraction"] == pytest.approx(outcome.flops_fraction.mean())


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_policy_is_applied(name: str) -> None:
    record = make_record(60, 4, split="test")
    policy = ready_policy(name, (POLICIES[name].settings(4) or (0.6, 0.6))[1])
    outcome = apply(policy, record)
    assert outcome.record is record and outcome.exits.tolist() == policy.exits(record).tolist()


def test_confidences_are_those_that_the_policy_reads() -> None:
    record = make_record(60, 4, split="test")
    policy = dataclasses.replace(ready_policy("confidence", 0.6), temperatures=(2.0, 1.5, 3.0, 1.0))
    outcome = apply(policy, record)
    read = np.stack([policy.columns(record)["confidence"][i, k] for i, k in enumerate(outcome.exits)])
    assert np.array_equal(outcome.confidence, read) and (outcome.confidence != record.confidence.max(axis=1)).any()
    early = outcome.exits < 3
    assert (outcome.confidence[early] >= np.float32(0.6)).all() and early.any()


def test_predictions_alone_need_no_logits() -> None:
    policy = dataclasses.replace(ready_policy("patience", 1), temperatures=(2.0, 1.5, 3.0, 1.0))
    record = make_record(60, 4, with_logits=False, split="test")
    assert apply(policy, record).record is record
    with pytest.raises(ValueError, match="has no logits"):
        apply(dataclasses.replace(ready_policy("confidence", 0.6), temperatures=policy.temperatures), record)


def test_a_record_without_images_has_no_summary() -> None:
    empty = make_record(30, 4).subset(slice(0, 0))
    with pytest.raises(ValueError, match="without images has no accuracy"):
        apply(ready_policy("confidence", 0.6), empty).summary()
    with pytest.raises(ValueError, match="without images has no trade-off"):
        dx.trade_off(empty)


@pytest.mark.parametrize("exits", [[0, -1], [0, 3], [0], [0.0, 1.0], [True, False]])
def test_exits_that_the_record_does_not_have_are_refused(exits: list[float]) -> None:
    with pytest.raises(ValueError, match=r"must be 2 integers|must lie in 0 to 2"):
        Outcome(make_record(2, 3), np.array(exits))
    assert Outcome(make_record(2, 3), [0, 2]).exits.dtype == np.int64  # type: ignore[arg-type]


def test_it_is_frozen_and_computes_once() -> None:
    outcome = apply(ready_policy("confidence", 0.6), make_record(30, 4))
    assert outcome.correct is outcome.correct
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.exits = outcome.exits  # type: ignore[misc]


def test_parts_exclude_each_other_and_are_all_differences() -> None:
    rng, record = np.random.default_rng(0), make_record(300, 4, 5)
    a, b = (dx.Outcome(record, rng.integers(0, 4, 300)) for _ in range(2))
    masks = parts(a, b)
    assert (sum(mask.astype(int) for mask in masks.values()) <= 1).all()
    assert np.array_equal(np.logical_or.reduce(list(masks.values())), a.prediction != b.prediction)
    assert not any(mask.any() for mask in parts(a, a).values())
