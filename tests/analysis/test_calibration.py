"""Calibration and failure prediction against torchmetrics, plain loops and scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from synthetic import make_record, record_from_logits
from torch.nn.functional import cross_entropy

from dmpo_explore.analysis.calibration import (
    adaptive_calibration_error,
    brier_score,
    calibration_error,
    calibration_table,
    expected_error,
    failure_prediction,
    failure_prediction_table,
    negative_log_likelihood,
    probabilities,
    reliability_table,
)
from dmpo_explore.fitting.temperature import RANGE, fit_temperatures, tempered_record
from dmpo_explore.records.record import ExitRecord

RECORD = make_record(20, 3, 4)


def test_calibration_error_by_hand() -> None:
    record = make_record(4, 1, 2)
    confidence = np.array([[0.9], [0.9], [0.6], [1.0]], np.float32)
    says = np.array([[0], [1], [0], [0]], np.int32)
    made = ExitRecord(**{**vars(record), "confidence": confidence, "prediction": says, "labels": np.zeros(4, np.int64)})
    # bins of a tenth: two at 0.9 of which one is right, one at 0.6, one at 1.0 (in the last bin with those at 0.9)
    assert calibration_error(made, bins=10) == pytest.approx([(abs(2 * 0.9 + 1.0 - 2) + abs(0.6 - 1)) / 4])


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_is_torchmetrics(bins: int) -> None:
    from torchmetrics.classification import MulticlassCalibrationError  # here: every process collects, one needs it

    made = make_record(500, 3, 4)
    assert made.logits is not None
    record = record_from_logits(made.logits, made.labels)  # rounded throughout, so that no image changes its bin
    chances = probabilities(record)
    for k, found in enumerate(calibration_error(record, bins)):
        reference = MulticlassCalibrationError(4, n_bins=bins, norm="l1")
        expected = reference(torch.from_numpy(chances[:, k]).float(), torch.from_numpy(record.labels))
        assert found == pytest.approx(float(expected), abs=1e-5)


@given(st.integers(0, 999), st.integers(1, 60), st.integers(1, 20))
def test_adaptive_error_by_a_loop(seed: int, n: int, bins: int) -> None:
    record = make_record(n, 2, 3, seed)
    for k, found in enumerate(adaptive_calibration_error(record, bins)):
        order = np.argsort(record.confidence[:, k], kind="stable")
        total = 0.0
        for b in range(bins):
            members = [i for place, i in enumerate(order) if place * bins // n == b]
            if members:
                sure, right = record.confidence[members, k].mean(dtype=float), record.correct[members, k].mean()
                total += len(members) / n * abs(sure - right)
        assert found == pytest.approx(total, abs=1e-9)
    sizes = np.bincount(np.arange(n) * bins // n)
    assert sizes[sizes > 0].max() - sizes[sizes > 0].min() <= 1  # equally many images


def test_brier_and_likelihood_by_hand_and_by_torch() -> None:
    record = make_record(60, 3, 4)
    temperatures = (2.0, 1.0, 0.5)
    for values in (None, temperatures):
        chances = probabilities(record, values)
        np.testing.assert_allclose(chances.sum(axis=2), 1)
        brier, nll = brier_score(record, values), negative_log_likelihood(record, values)
        for k in range(3):
            squares = [
                sum((chances[i, k, c] - (c == label)) ** 2 for c in range(4)) for i, label in enumerate(record.labels)
            ]
            assert brier[k] == pytest.approx(np.mean(squares))
            assert record.logits is not None
            logits = torch.from_numpy(record.logits[:, k].astype(np.float64)) / (values[k] if values else 1)
            assert nll[k] == pytest.approx(float(cross_entropy(logits, torch.from_numpy(record.labels))))


def test_the_likelihood_of_an_impossible_class_is_not_cut_off() -> None:
    record = record_from_logits(np.array([[[20.0, 0.0]]] * 4, np.float32), np.array([0, 0, 0, 1]))
    assert negative_log_likelihood(record, [0.02]) == pytest.approx([1000 / 4])  # nats; a probability would be 0


def test_temperatures_have_the_least_likelihood_loss() -> None:
    record = make_record(400, 3, 5)
    found = fit_temperatures(record)
    for k, temperature in enumerate(found):

        def loss(log_t: float, k: int = k) -> float:
            values = [1.0, 1.0, 1.0]
            values[k] = float(np.exp(log_t))
            return float(negative_log_likelihood(record, values)[k])

        best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
        assert temperature == pytest.approx(np.exp(best.x), rel=1e-4)


@pytest.mark.parametrize("sharpened", [0.5, 4.0])
def test_a_known_temperature_is_found(sharpened: float) -> None:
    """Labels drawn from the softmax of logits: those logits times a number have that number as temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 1, 4)) * 2
    chances = np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    record = record_from_logits(logits * sharpened, labels)
    (temperature,) = fit_temperatures(record)
    assert temperature == pytest.approx(sharpened, rel=0.03)
    table = calibration_table(record, [temperature]).set_index("when")
    assert table.loc["before", "ece"] > 0.05 > 0.015 > table.loc["after", "ece"]
    assert table.loc["after", "nll"] < table.loc["before", "nll"]
    assert table.loc["after", "brier"] < table.loc["before", "brier"]
    assert table.loc["after", "adaptive_ece"] < 0.02
    assert table.loc["after", "accuracy"] == table.loc["before", "accuracy"] == record.correct.mean()


def test_extreme_temperatures_stay_in_range() -> None:
    right = record_from_logits(np.eye(3)[[0, 1, 2]][:, None], [0, 1, 2])
    wrong = record_from_logits(np.eye(3)[[0, 1, 2]][:, None], [1, 2, 0])
    assert fit_temperatures(right) == (RANGE[0],)
    assert fit_temperatures(wrong) == (RANGE[1],)


def test_a_tempered_record_softens_scores_only() -> None:
    record = make_record(50, 3, 4)
    found = tempered_record(record, (2.0, 1.0, 0.5))
    np.testing.assert_allclose(found.confidence, probabilities(record, (2.0, 1.0, 0.5)).max(axis=2), atol=1e-6)
    assert (found.confidence[:, 0] <= record.confidence[:, 0] + 1e-3).all()
    assert found.prediction is record.prediction and found.logits is record.logits
    again, once = (tempered_record(one, (1.0, 1.0, 1.0)) for one in (found, record))
    np.testing.assert_array_equal(again.confidence, once.confidence)
    np.testing.assert_array_equal(brier_score(found), brier_score(record, (2.0, 1.0, 0.5)))


@pytest.mark.parametrize("least", [1, 20, 400, 10**6])
def test_joined_bins_hold_enough_images_and_the_same_means(least: int) -> None:
    record = make_record(3000, 3, 4)
    fine, joined = reliability_table(record, 10), reliability_table(record, 10, least)
    for exit in range(1, record.n_exits + 1):
        a, b = (table[table["exit"] == exit] for table in (fine, joined))
        assert b["images"].sum() == record.n_images and (len(b) == 1 or b["images"].min() >= least)
        assert (b["low"].to_numpy()[1:] >= b["high"].to_numpy()[:-1] - 1e-12).all()
        for column in ("confidence", "accuracy"):
            assert (b["images"] * b[column]).sum() == pytest.approx((a["images"] * a[column]).sum())
    assert least > 1 or fine.equals(joined)


def test_a_reliability_table_counts_every_image() -> None:
    record = make_record(300, 3, 4)
    table = reliability_table(record, bins=8)
    assert table.groupby("exit")["images"].sum().tolist() == [300] * 3
    means = (table["accuracy"] * table["images"]).groupby(table["exit"]).sum() / 300
    assert means.tolist() == pytest.approx(record.correct.mean(axis=0).tolist())
    assert (table["low"] <= table["confidence"]).all() and (table["confidence"] <= table["high"] + 1e-6).all()
    gaps = (table["images"] * (table["confidence"] - table["accuracy"]).abs()).groupby(table["exit"]).sum() / 300
    assert gaps.tolist() == pytest.approx(calibration_error(record, 8).tolist(), abs=1e-6)


def naive(record: ExitRecord, score: str, sign: int) -> list[float]:
    """Every pair of an image that may exit and one that may not; ties count half."""
    found = []
    for k in range(record.n_exits - 1):
        may = [bool(c[k]) or not any(c[k + 1 :]) for c in record.correct]
        values = sign * np.asarray(record.score(score))[:, k]
        wins = pairs = 0.0
        for i in range(record.n_images):
            for j in range(record.n_images):
                if may[i] and not may[j]:
                    pairs += 1
                    wins += float(values[i] > values[j]) + 0.5 * float(values[i] == values[j])
        found.append(wins / pairs if pairs else float("nan"))
    return found


@pytest.mark.parametrize("score", ["confidence", "entropy", "margin"])
def test_it_is_the_share_of_ordered_pairs(score: str) -> None:
    record = make_record(60, n_exits=4, seed=3)
    sign = -1 if score == "entropy" else 1
    np.testing.assert_allclose(failure_prediction(record, score), naive(record, score, sign), rtol=1e-12)


def test_ties_count_half_and_one_sided_exits_have_no_number() -> None:
    record = make_record(40, n_exits=3, seed=1)
    record.confidence[:] = np.round(record.confidence, 1)
    np.testing.assert_allclose(failure_prediction(record), naive(record, "confidence", 1), rtol=1e-12)
    record.prediction[:] = record.labels[:, None]  # every exit is correct: all may exit
    assert np.isnan(failure_prediction(record)).all()


def test_calibration_and_order_are_different_questions() -> None:
    """A monotone change of the scores ruins the calibration and leaves EEFP as it is."""
    record = make_record(300, n_exits=3, seed=2)
    table = failure_prediction_table(record)
    record.confidence[:] = record.confidence**8
    changed = failure_prediction_table(record)
    np.testing.assert_allclose(changed["eefp"], table["eefp"])
    assert (changed["ece"] > table["ece"] + 0.05).all()
    assert table.columns.tolist() == ["exit", "accuracy", "may_exit", "eefp", "eefp_entropy", "eefp_margin", "ece"]


def test_a_single_exit_has_nothing_to_predict() -> None:
    record = make_record(20, n_exits=1)
    assert failure_prediction(record).shape == (0,) and failure_prediction_table(record).empty


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        *(
            (partial(ask, RECORD, 0), "bins=0")
            for ask in (calibration_error, adaptive_calibration_error, reliability_table)
        ),
        *(
            (
                partial(ask, replace(RECORD, logits=None)),
                "no logits, which temperatures need; `dmpo-explore record RUN --fo",
            )
            for ask in (fit_temperatures, brier_score, partial(tempered_record, temperatures=(1.0,) * 3))
        ),
        (lambda: tempered_record(RECORD, (1.0, 2.0)), "2 temperatures for 3 exits"),
        *(
            (partial(ask, RECORD, bad), "temperatures for 3 exits|must be a positive number")
            for ask in (probabilities, brier_score, negative_log_likelihood)
            for bad in ([2.0], 2.0, (1.0, 2.0), (1.0, -1.0, 1.0), (1.0, 0.0, 1.0), (1.0, np.nan, 1.0))
        ),
        (lambda: expected_error([90.0, 60.0], [True, False]), "confidences from 60 to 90 must be from 0 to 1"),
        (lambda: expected_error([0.9, np.nan], [True, False]), "must be from 0 to 1"),
        (lambda: expected_error([0.9, 0.6], [1, 0]), "bool"),
        (lambda: expected_error([0.9, 0.6], [True]), "must be"),
        (lambda: expected_error([], []), "at least one"),
        (lambda: failure_prediction(RECORD, "prediction"), "'prediction'.*confidence, entropy, margin"),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
