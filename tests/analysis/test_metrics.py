"""Metrics against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, sem
from scipy.stats import t as student
from synthetic import make_record, record_from_logits

from dmpo_explore.analysis.metrics import (
    accuracy_interval,
    area,
    balanced_accuracy,
    bootstrap_difference,
    gain,
    seeds_interval,
    summarise,
    trade_off,
)
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.records.record import ExitRecord

SAYS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]])  # four images of class 0, three exits


def by_hand() -> ExitRecord:
    return record_from_logits(np.eye(2)[SAYS], [0, 0, 0, 0])


@pytest.mark.parametrize(("right", "images"), [(22, 34), (0, 5), (5, 5), (1, 1), (913, 1000), (9133, 10_000)])
def test_an_interval_is_scipys_wilson_interval(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(method="wilson")
    found = accuracy_interval(np.arange(images) < right)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found[0] <= right / images <= found[1] <= 1


@pytest.mark.parametrize("bad", [[], [0.5, 1.0], [[True]], True])
def test_an_interval_needs_images_that_are_correct_or_not(bad: object) -> None:
    with pytest.raises(ValueError, match=r"must be \(B,\) bool, of at least one image"):
        accuracy_interval(bad)  # type: ignore[arg-type]


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


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ([0, 0], "must be 4 integers"),
        ([0.0] * 4, "must be 4 integers"),
        ([0, 1, 2, 3], "0 to 2"),
        ([0, 0, 0, -1], "0 to 2"),
    ],
)
def test_bad_exits_are_named(exits: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(by_hand(), exits)


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


def test_a_fitted_policy_has_a_curve_elsewhere() -> None:
    val, test = make_record(300, 4, 5), make_record(200, 4, 5, seed=1, split="test")
    for name in ("gate", "budgeted", "confidence"):
        policy = fit_policy(val, name, flops=0.5, temperatures="fit")
        table = trade_off(test, policy, points=20)
        for row in table.itertuples():
            found = summarise(test, replace(policy, thresholds=(row.threshold,)).exits(test))
            assert (found["accuracy"], found["flops_fraction"]) == pytest.approx((row.accuracy, row.flops_fraction))


def test_the_curve_is_evenly_spread_or_whole() -> None:
    record = make_record(2000, 4, 5)
    whole, thin = trade_off(record, points=None), trade_off(record, points=50)
    assert len(whole) > 2000
    assert len(thin) == 50
    assert np.diff(thin["flops_fraction"]).max() < 0.6 / 49 * 1.5
    assert set(thin["threshold"]) <= set(whole["threshold"])
    assert len(trade_off(record, points=2)) == 2
    with pytest.raises(ValueError, match="points=1"):
        trade_off(record, points=1)


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


def test_bootstrap_wants_the_same_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        bootstrap_difference(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="same images"):
        bootstrap_difference(np.ones(0, bool), np.ones(0, bool))
    with pytest.raises(ValueError, match="must be bool"):
        bootstrap_difference(np.ones(3), np.ones(3, bool))


@pytest.mark.parametrize("shape", [(1, 50), (4, 1)])
def test_of_one_training_or_one_image_the_interval_is_students(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    low, high = student.interval(0.95, values.size - 1, values.mean(), sem(values.ravel()))
    assert seeds_interval(values) == pytest.approx((values.mean(), low, high))


def test_the_interval_adds_the_squares_of_trainings_and_images() -> None:
    trainings, images = np.array([-1.0, 0.0, 2.5]), np.random.default_rng(0).normal(size=40)
    mean, low, high = seeds_interval(trainings[:, None] + images)
    halves = student.ppf(0.975, 2) * sem(trainings), student.ppf(0.975, 39) * sem(images)
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


@pytest.mark.parametrize("bad", [[], [1.0, 2.0], [[1.0]], [[[1.0], [2.0]]]])
def test_the_interval_over_trainings_wants_a_row_for_each(bad: object) -> None:
    with pytest.raises(ValueError, match=r"must be \(S, B\): a row per training"):
        seeds_interval(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ([[True, False]], [True, False]),  # would be broadcast
        ([True, False], [True, False]),
        ([[1, 0]], [[True, False]]),
        ([[90.0, 80.0]], [[70.0, 60.0]]),  # per cent
    ],
)
def test_a_gain_needs_the_same_images_correct_or_not(more: object, less: object) -> None:
    with pytest.raises(ValueError, match=r"must be \(S, B\) bool"):
        gain("more over less", more, less)  # type: ignore[arg-type]


def test_balanced_accuracy_takes_no_labels_for_what_is_correct() -> None:
    with pytest.raises(ValueError, match=r"correct \(3,\) of type int64 must be"):
        balanced_accuracy([0, 1, 2], [0, 1, 2])


def test_a_gain_is_the_interval_of_the_paired_difference() -> None:
    dice = np.random.default_rng(0)
    more, less = dice.random((3, 50)) < 0.8, dice.random((3, 50)) < 0.6
    row = gain("more over less", more, less)
    assert (row["points"], row["low"], row["high"]) == seeds_interval(100 * (more.astype(float) - less))
    assert len(str(row["seeds"]).split()) == 3 and row["over"] == "images and trainings"
    assert gain("one", more[:1], less[:1])["over"] == "images"
    shares = np.stack((more, less), axis=2).mean(axis=2)  # of the answers of two exits
    assert gain("of two", shares, less)["points"] == pytest.approx(float(row["points"]) / 2)
