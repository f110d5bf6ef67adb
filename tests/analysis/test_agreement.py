"""Agreement of two outcomes: kinds of disagreement exclude each other and cover all differences."""

from __future__ import annotations

import numpy as np
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis import agreement


def test_parts_exclude_each_other_and_are_all_differences() -> None:
    rng, record = np.random.default_rng(0), make_record(300, 4, 5)
    a, b = (dx.Outcome(record, rng.integers(0, 4, 300)) for _ in range(2))
    masks = agreement.parts(a, b)
    assert (sum(mask.astype(int) for mask in masks.values()) <= 1).all()
    assert np.array_equal(np.logical_or.reduce(list(masks.values())), a.prediction != b.prediction)
    assert not any(mask.any() for mask in agreement.parts(a, a).values())
