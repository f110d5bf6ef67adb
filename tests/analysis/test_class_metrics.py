"""Metrics by class: against scikit-learn and plain loops, empty classes included."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis.metrics import balanced_accuracy, best_and_worst, class_metrics, summarise


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


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"labels \(2,\) must be \(3,\)"):
        balanced_accuracy([True, False, True], [0, 1])
    with pytest.raises(ValueError, match="at least one"):
        balanced_accuracy(np.zeros(0, bool), [])


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
