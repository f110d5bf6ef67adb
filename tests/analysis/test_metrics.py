"""Metrics, of images, classes and trainings, against values worked out by hand, plain loops and other libraries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, sem
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score
from synthetic import make_record, ready_policy, record_from_logits

import dmpo_explore as dx
from dmpo_explore.analysis.metrics import (
    Outcome,
    accuracy_interval,
    apply,
    area,
    balanced_accuracy,
    best_and_worst,
    bootstrap_difference,
    class_metrics,
    gain,
    overthinking,
    parts,
    seeds_interval,
    summarise,
    trade_off,
)
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.records.record import ExitRecord

SAYS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]])  # four images of class 0, three exits
BARE = make_record(60, 4, with_logits=False, split="test")


def by_hand() -> ExitRecord:
    return record_from_logits(np.eye(2)[SAYS], [0, 0, 0, 0])


@pytest.mark.parametrize(("right", "images"), [(22, 34), (0, 5), (5, 5), (1, 1), (913, 1000), (9133, 10_000)])
def test_an_interval_is_scipys_wilson_interval(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(method="wilson")
    found = accuracy_interval(np.arange(images) < right)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found[0] <= right / images <= found[1] <= 1


def test_summary_by_hand() -> None:
    found = summarise(by_hand(), [0, 0, 2, 2])
    assert found.pop("flops_fraction") == pytest.approx((2 * 0.3 + 2 * 0.7) / 4)
    assert found == {
        "images": 4,
        "accuracy": 0.25,
        "full_accuracy": 0.5,
        "accuracy_drop": 0.25,
        "balanced_accuracy": 0.25,
        "mean_exit": 2.0,
        "exit_shares": [0.5, 0.0, 0.5],
        "exit_accuracy": [0.5, 0.75, 0.5],
        "exit_balanced_accuracy": [0.5, 0.75, 0.5],
        "changed": 0.25,  # image 2 says 1, its last exit 0
        "overthought": 0.5,  # images 3 and 4 were right at an earlier exit
        "too_early": 0.25,  # image 2 would have become right
    }


@given(st.integers(0, 999), st.sampled_from(sorted(POLICIES)), st.floats(0.3, 0.9))
def test_summary_and_fit_agree(seed: int, name: str, budget: float) -> None:
    record = make_record(50, 4, 3, seed)
    exits = fit_policy(record, name, flops=budget).exits(record)
    found = summarise(record, exits)
    assert found["flops_fraction"] <= budget * (1 + 1e-12)
    assert sum(found["exit_shares"]) == pytest.approx(1)
    assert found["mean_exit"] == pytest.approx(np.dot(found["exit_shares"], [1, 2, 3, 4]))
    assert found["accuracy"] == pytest.approx(found["full_accuracy"] - found["accuracy_drop"])
    assert found["accuracy_drop"] <= found["too_early"] + 1e-12
    assert all(type(value) in (int, float, list) for value in found.values())  # plain JSON values


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_curve_is_what_its_thresholds_do(name: str) -> None:
    record, few = make_record(300, 4, 5), POLICIES[name].settings(4)
    table = trade_off(record, name, points=20)
    assert list(table.columns) == ["threshold", "accuracy", "flops_fraction", "mean_exit"]
    assert table["flops_fraction"].is_monotonic_increasing
    assert len(table) == len(few) if few and len(few) < 20 else 15 <= len(table) <= 20
    assert table["flops_fraction"].iloc[[0, -1]].tolist() == pytest.approx([0.3, 0.9])
    for row in table.itertuples():
        found = summarise(record, fit_policy(record, name, threshold=row.threshold).exits(record))
        for key in ("accuracy", "flops_fraction", "mean_exit"):
            assert found[key] == pytest.approx(getattr(row, key))


def test_the_curve_is_evenly_spread_or_whole() -> None:
    record = make_record(2000, 4, 5)
    whole, thin = trade_off(record, points=None), trade_off(record, points=50)
    assert len(whole) > 2000
    assert len(thin) == 50
    assert np.diff(thin["flops_fraction"]).max() < 0.6 / 49 * 1.5
    assert set(thin["threshold"]) <= set(whole["threshold"])
    assert len(trade_off(record, points=2)) == 2


def test_one_exit_is_one_point() -> None:
    record = make_record(50, 1, 3)
    table = trade_off(record)
    assert table[["accuracy", "mean_exit"]].to_numpy().tolist() == [[record.correct.mean(), 1]]
    assert area(record) == record.correct.mean()


def test_area_by_hand() -> None:
    """Patience on the hand-made record: all at exit 1, agreeing exits, all at exit 3."""
    table = trade_off(by_hand(), "patience")
    assert table["accuracy"].tolist() == [0.5, 0.5, 0.5]
    assert area(by_hand(), "patience") == pytest.approx(0.5)
    logits = np.zeros((2, 2, 2))
    logits[0, :, 0] = [3, 3]  # surely right at once
    logits[1, 0, 1], logits[1, 1, 0] = 1, 1  # unsurely wrong, then right
    record = record_from_logits(logits, [0, 0])
    assert trade_off(record)["accuracy"].tolist() == [0.5, 1.0, 1.0]
    assert trade_off(record)["flops_fraction"].tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert area(record) == pytest.approx((0.75 + 1.0) / 2)


@pytest.mark.slow
@given(st.integers(0, 999), st.sampled_from(sorted(POLICIES)))
def test_area_lies_between_the_curves_ends(seed: int, name: str) -> None:
    record = make_record(40, 4, 3, seed)
    accuracy = trade_off(record, name, points=None)["accuracy"]
    assert accuracy.min() - 1e-9 <= area(record, name) <= accuracy.max() + 1e-9


def test_bootstrap_is_paired_and_covers() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(4000) < 0.4
    a, b = ~hard, ~hard ^ (rng.random(4000) < 0.01)
    difference, low, high = bootstrap_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert low < difference < high
    flips = (a.astype(float) - b).std()
    assert high - low == pytest.approx(2 * 1.96 * flips / 4000**0.5, rel=0.1)  # unpaired, it would be 10 times as wide
    assert (difference, low, high) == bootstrap_difference(a, b)
    assert bootstrap_difference(b, a)[0] == -difference


def test_where_few_answers_differ_the_interval_still_covers() -> None:
    a = np.arange(34) < 20
    same, low, high = bootstrap_difference(a, a)
    assert same == 0 and -low == high == pytest.approx(1.96 * 2**0.5 / 36, rel=1e-3)
    difference, low, high = bootstrap_difference(a, a & (np.arange(34) >= 4))  # 4 to 0: McNemar's exact p is 0.125
    assert difference == pytest.approx(4 / 34) and low < 0 < high
    rng, hits, n, p, q = np.random.default_rng(0), 0, 100, 0.03, 0.01
    for only_a, only_b, _ in rng.multinomial(n, [p, q, 1 - p - q], size=500):
        where = np.arange(n)
        a, b = where < only_a, (only_a <= where) & (where < only_a + only_b)
        _, low, high = bootstrap_difference(a, b)
        hits += low <= p - q <= high
    assert hits >= 470  # a percentile bootstrap's: 450


@pytest.mark.parametrize("shape", [(1, 50), (4, 1)])
def test_of_one_training_or_one_image_the_interval_is_students(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    for level, found in ((0.95, seeds_interval(values)), (0.6, seeds_interval(values, level=0.6))):
        low, high = student.interval(level, values.size - 1, values.mean(), sem(values.ravel()))
        assert found == pytest.approx((values.mean(), low, high))


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_the_interval_adds_the_squares_of_trainings_and_images(level: float) -> None:
    trainings, images = np.array([-1.0, 0.0, 2.5]), np.random.default_rng(0).normal(size=40)
    mean, low, high = seeds_interval(trainings[:, None] + images, level=level)
    end = (1 + level) / 2
    halves = student.ppf(end, 2) * sem(trainings), student.ppf(end, 39) * sem(images)
    assert mean == pytest.approx(0.5 + images.mean())
    assert high - mean == pytest.approx(np.hypot(*halves)) == mean - low


def test_trainings_that_agree_by_chance_do_not_narrow_the_interval_over_images() -> None:
    values = np.random.default_rng(0).normal(size=(3, 200))
    spread = values - values.mean(axis=1, keepdims=True)  # means of 0
    of_images = spread.mean(axis=0)
    assert seeds_interval(spread)[2] == pytest.approx(student.ppf(0.975, 199) * sem(of_images))
    alone = np.outer([1.0, -1.0, 0.0], np.resize([1, -1], 200))  # images have nothing in common
    assert seeds_interval(alone) == (0, 0, 0)
    apart = alone + np.array([[-1.0], [0.0], [1.0]])
    assert seeds_interval(apart)[2] == pytest.approx(student.ppf(0.975, 2) / 3**0.5)


@pytest.mark.parametrize("S", [3, 5])
@pytest.mark.parametrize("spread", [0, 1, 2, 4])
@pytest.mark.parametrize("shared", [0.1, 0.5, 0.9])
def test_the_interval_over_trainings_and_images_covers(S: int, spread: float, shared: float) -> None:
    """``spread``: of trainings, in standard errors of one over images; ``shared``: part of the images' variance."""
    rng, B, found = np.random.default_rng(0), 40, []
    for _ in range(500):
        values = rng.normal(0, spread / B**0.5, (S, 1)) + rng.normal(0, shared**0.5, B)
        _, low, high = seeds_interval(values + rng.normal(0, (1 - shared) ** 0.5, (S, B)))
        found.append(low <= 0 <= high)
    assert np.mean(found) >= 0.93


def test_a_gain_is_the_interval_of_the_paired_difference() -> None:
    dice = np.random.default_rng(0)
    more, less = dice.random((3, 50)) < 0.8, dice.random((3, 50)) < 0.6
    row = gain("more over less", more, less)
    assert (row["points"], row["low"], row["high"]) == seeds_interval(100 * (more.astype(float) - less))
    assert len(str(row["seeds"]).split()) == 3 and row["over"] == "images and trainings"
    assert gain("one", more[:1], less[:1])["over"] == "images"
    shares = np.stack((more, less), axis=2).mean(axis=2)  # of the answers of two exits
    assert gain("of two", shares, less)["points"] == pytest.approx(float(row["points"]) / 2)


@given(st.integers(0, 999), st.integers(1, 60), st.integers(2, 8))
def test_balanced_accuracy_is_sklearns(seed: int, images: int, classes: int) -> None:
    record = make_record(images, 3, classes, seed, with_logits=False)
    found = balanced_accuracy(record.correct, record.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a predicted class that no image has
        expected = [balanced_accuracy_score(record.labels, record.prediction[:, k]) for k in range(3)]
    assert found.tolist() == pytest.approx(expected)
    summary = summarise(record, np.full(images, 1))
    assert summary["balanced_accuracy"] == pytest.approx(expected[1]) == summary["exit_balanced_accuracy"][1]


def test_a_row_per_class() -> None:
    record = make_record(90, 3, 7, seed=3)
    record = record.subset(np.flatnonzero(record.labels != 4))  # a class that no image has
    outcome = dx.Outcome(record, np.random.default_rng(0).integers(3, size=record.n_images))
    table = class_metrics(outcome)
    assert table["class"].tolist() == list(record.meta.class_names)
    assert list(table)[5:] == ["accuracy_1", "accuracy_2", "accuracy_3"]
    assert table["images"].sum() == record.n_images and table["images"][4] == 0 and table.loc[4].isna().sum() == 6
    for c, row in table.drop(index=4).iterrows():
        own = record.labels == c
        assert row["accuracy"] == pytest.approx(outcome.correct[own].mean())
        assert row["mean_exit"] == pytest.approx(outcome.exits[own].mean() + 1)
        assert row["flops_fraction"] == pytest.approx(record.flops_fraction[outcome.exits[own]].mean())
        assert row["accuracy_2"] == pytest.approx(record.correct[own, 1].mean())
    assert table["accuracy"].mean() == pytest.approx(outcome.summary()["balanced_accuracy"])


def test_best_and_worst() -> None:
    values = [0.5, np.nan, 0.9, 0.1, 0.9, 0.2]
    assert best_and_worst(values, 2) == ([2, 4], [3, 5])
    assert best_and_worst(values, 3) == ([2, 4, 0, 5, 3], [])


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
    assert summary == dx.summarise(record, exits.astype(np.int32)) and outcome.exits.dtype == np.int64
    assert summary["accuracy"] == outcome.correct.mean() and summary["too_early"] == outcome.early_exit_error.mean()
    assert summary["overthought"] == outcome.overthinking.mean() == overthinking(record, exits).mean()
    assert summary["flops_fraction"] == pytest.approx(outcome.flops_fraction.mean())


def test_confidences_are_those_that_the_policy_reads() -> None:
    record = make_record(60, 4, split="test")
    policy = replace(ready_policy("confidence", 0.6), temperatures=(2.0, 1.5, 3.0, 1.0))
    outcome = apply(policy, record)
    read = np.stack([policy.columns(record)["confidence"][i, k] for i, k in enumerate(outcome.exits)])
    assert np.array_equal(outcome.confidence, read) and (outcome.confidence != record.confidence.max(axis=1)).any()
    early = outcome.exits < 3
    assert (outcome.confidence[early] >= np.float32(0.6)).all() and early.any()


def test_predictions_alone_need_no_logits() -> None:
    policy = replace(ready_policy("patience", 1), temperatures=(2.0, 1.5, 3.0, 1.0))
    assert apply(policy, BARE).record is BARE


def test_it_is_frozen_and_computes_once() -> None:
    outcome = apply(ready_policy("confidence", 0.6), make_record(30, 4))
    assert outcome.correct is outcome.correct
    with pytest.raises(FrozenInstanceError):
        outcome.exits = outcome.exits  # type: ignore[misc]


def test_parts_exclude_each_other_and_are_all_differences() -> None:
    rng, record = np.random.default_rng(0), make_record(300, 4, 5)
    a, b = (dx.Outcome(record, rng.integers(0, 4, 300)) for _ in range(2))
    masks = parts(a, b)
    assert (sum(mask.astype(int) for mask in masks.values()) <= 1).all()
    assert np.array_equal(np.logical_or.reduce(list(masks.values())), a.prediction != b.prediction)
    assert not any(mask.any() for mask in parts(a, a).values())


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        *(
            (partial(accuracy_interval, bad), r"must be \(B,\) bool, of at least one image")
            for bad in ([], [0.5, 1.0], [[True]], True)
        ),
        *(
            (partial(door, by_hand(), exits), words)
            for door in (summarise, Outcome)
            for exits, words in (
                ([0, 0], "must be 4 integers"),
                ([0.0] * 4, "must be 4 integers"),
                ([True] * 4, "must be 4 integers"),
                ([0, 1, 2, 3], "must lie in 0 to 2"),
                ([0, 0, 0, -1], "must lie in 0 to 2"),
            )
        ),
        (lambda: trade_off(make_record(20), points=1), "points=1"),
        (lambda: trade_off(make_record(20).subset([])), "without images has no trade-off"),
        (lambda: apply(ready_policy("confidence", 0.6), make_record(20).subset([])).summary(), "has no accuracy"),
        (
            lambda: apply(replace(ready_policy("confidence", 0.6), temperatures=(2.0,) * 4), BARE),
            "has no logits",
        ),
        (lambda: bootstrap_difference(np.ones(3, bool), np.ones(4, bool)), "same images"),
        (lambda: bootstrap_difference(np.ones(0, bool), np.ones(0, bool)), "same images"),
        (lambda: bootstrap_difference(np.ones(3), np.ones(3, bool)), "must be bool"),
        *(
            (partial(seeds_interval, bad), r"must be \(S, B\): a row per training")
            for bad in ([], [1.0, 2.0], [[1.0]], [[[1.0], [2.0]]])
        ),
        *((partial(seeds_interval, [[0.0, 1.0]], level=bad), f"level={bad}") for bad in (0, 1, 95, float("nan"))),
        *(
            (partial(gain, "more over less", more, less), r"must be \(S, B\) bool")
            for more, less in (
                ([[True, False]], [True, False]),  # would be broadcast
                ([True, False], [True, False]),
                ([[1, 0]], [[True, False]]),
                ([[90.0, 80.0]], [[70.0, 60.0]]),  # per cent
            )
        ),
        (lambda: balanced_accuracy([0, 1, 2], [0, 1, 2]), r"correct \(3,\) of type int64 must be"),
        (lambda: balanced_accuracy([True, False, True], [0, 1]), r"labels \(2,\) must be \(3,\)"),
        (lambda: balanced_accuracy(np.zeros(0, bool), []), "at least one"),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
