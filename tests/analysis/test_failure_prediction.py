"""Early-exit failure prediction against naive loops over pairs of images."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.analysis.calibration import failure_prediction, failure_prediction_table
from dmpo_explore.records.record import ExitRecord


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
    with pytest.raises(ValueError, match="'prediction'.*confidence, entropy, margin"):
        failure_prediction(record, "prediction")


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
