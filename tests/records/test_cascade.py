"""Models that run one after another, as one record: what it says is what running them would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.records.record import ExitRecord, cascade


def recorded(split: str) -> list[ExitRecord]:
    return [dx.load_run(name).record(split) for name in ("demo-cnn", "demo-single")]


def test_a_small_model_then_a_large_one(tmp_path: Path) -> None:
    val, (small, large) = cascade(*recorded("val")), recorded("test")
    both, policy = cascade(small, large), dx.fit_policy(val, accuracy_drop=0.005)
    found, exits, rows = dx.apply(policy, both), policy.exits(both), np.arange(small.n_images)
    asked, early = exits >= small.n_exits, np.minimum(exits, small.n_exits - 1)  # whether of the large one
    expected = np.where(asked, large.prediction[:, 0], small.prediction[rows, early])
    np.testing.assert_array_equal(found.prediction, expected)
    spent = np.where(asked, small.meta.flops[-1] + large.meta.flops[0], np.take(small.meta.flops, early))
    np.testing.assert_allclose(found.flops_fraction, spent / large.meta.reference_flops)
    assert 0.05 < asked.mean() < 0.9 and found.correct.mean() > small.correct[:, -1].mean()
    assert dx.fit_policy(val, risk="too_early", epsilon=0.05).fitted["certificate"]["certified"]
    both.save(tmp_path / "both")
    again = ExitRecord.load(tmp_path / "both")
    assert again.digest == both.digest and again.meta.model == both.meta.model


def test_what_they_have_in_common_is_kept() -> None:
    one, other = make_record(30, 2, 4, seed=1), make_record(30, 3, 4, seed=2)
    other = replace(other, labels=one.labels)
    both = cascade(one, other, one)
    assert both.n_exits == 7 and both.logits is not None and both.logits.shape == (30, 7, 4)
    assert both.meta.exit_blocks[:2] == one.meta.exit_blocks and all(np.diff(both.meta.exit_blocks) > 0)
    assert cascade(one, replace(other, logits=None)).logits is None
    warm = cascade(one.tempered((2.0, 3.0)), other)
    assert warm.temperatures == (2.0, 3.0, 1.0, 1.0, 1.0)
    np.testing.assert_array_equal(warm.confidence[:, :2], one.tempered((2.0, 3.0)).confidence)


def of(record: ExitRecord, **facts: Any) -> ExitRecord:
    return replace(record, meta=replace(record.meta, **facts))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r.subset(slice(0, 29)), "other images"),
        (lambda r: replace(r, labels=(r.labels + 1) % 4), "other images"),
        (lambda r: of(r, images_sha256="a" * 64), "other images"),
        (lambda r: of(r, indices=np.arange(30)[::-1]), "other images"),
        (lambda r: of(r, class_names=tuple("wxyz")), "other classes"),
    ],
)
def test_other_images_or_classes_are_refused(change: Callable[[ExitRecord], ExitRecord], match: str) -> None:
    record = of(make_record(30, 2, 4), images_sha256="b" * 64, indices=np.arange(30))
    with pytest.raises(ValueError, match=match):
        cascade(record, change(record))
    with pytest.raises(ValueError, match="at least 2 models, not 1"):
        cascade(record)


def test_a_file_of_requests_has_a_cost_per_step(tmp_path: Path) -> None:
    """A router's log: each step's price alone."""
    record = make_record(20, 3, 4)
    np.savez(tmp_path / "log.npz", labels=record.labels, logits=record.logits, costs=[1, 5, 20.5])
    np.savez(tmp_path / "bare.npz", labels=record.labels, logits=record.logits)
    read = dx.runs.read_scores
    assert read(tmp_path / "log.npz").meta.flops == (1.0, 6.0, 26.5)
    assert read(tmp_path / "bare.npz", costs=(2, 2, 2)).meta.flops == (2.0, 4.0, 6.0)
    with pytest.raises(ValueError, match="log.npz: costs and flops are given"):
        read(tmp_path / "log.npz", flops=(1, 2, 3))
    with pytest.raises(ValueError, match="must be positive and rise"):
        read(tmp_path / "bare.npz", costs=(2, 0, 2))
