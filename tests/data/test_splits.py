"""Rules of splits: seeded, stratified, whole groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmpo_explore.data.splits import divide, held_out_rows, split_of


def test_names_of_splits_in_any_case() -> None:
    words = ["Train", "TRAINING", "val", "Valid", "validation", "Calibration", " test ", "Testing", "cats"]
    splits = ["train", "train", "val", "val", "val", "calibration", "test", "test", None]
    assert [split_of(word) for word in words] == splits


@given(counts=st.lists(st.integers(7, 60), min_size=1, max_size=5), seed=st.integers(0, 99), calibration=st.booleans())
@settings(max_examples=20)
def test_every_row_is_in_one_split_and_every_class_in_every_split(
    counts: list[int], seed: int, calibration: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = divide(labels, seed=seed, calibration=calibration)
    assert list(parts) == (["train", "val", "calibration", "test"] if calibration else ["train", "val", "test"])
    assert np.array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(len(labels)))
    held = [np.bincount(labels[rows], minlength=len(counts)).min() for split, rows in parts.items() if split != "train"]
    assert min(held) >= 1 and np.bincount(labels[parts["train"]], minlength=len(counts)).min() >= 1


def test_shares_are_60_10_10_20_with_calibration() -> None:
    parts = divide(np.repeat([0, 1, 2], 100), seed=0, calibration=True)
    assert {split: len(rows) for split, rows in parts.items()} == {
        "train": 180, "val": 30, "calibration": 30, "test": 60,
    }  # fmt: skip
    with pytest.raises(ValueError, match="class 'b' has 6 images; it needs at least 7 to be divided"):
        divide(np.repeat([0, 1], [20, 6]), seed=0, calibration=True, class_names=("a", "b"))
    with pytest.raises(ValueError, match="class 2 has 5 images; .* divided, and so do 2 other classes"):
        divide(np.repeat([0, 1, 2, 3], [20, 6, 5, 6]), seed=0, calibration=True)


@given(seed=st.integers(0, 99), n_groups=st.integers(4, 25), calibration=st.booleans())
@settings(max_examples=12)
def test_no_group_is_in_two_splits(seed: int, n_groups: int, calibration: bool) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.arange(200) % n_groups)
    labels = rng.integers(0, 3, 200)
    parts = divide(labels, seed=seed, calibration=calibration, groups=groups)
    seen = [set(groups[rows].tolist()) for rows in parts.values()]
    assert all(seen) and sum(map(len, seen)) == n_groups == len(set().union(*seen))
    assert sum(map(len, parts.values())) == 200
    val = held_out_rows(labels, 20, seed=seed, groups=groups)
    assert 0 < len(val) < 200 and not set(groups[val].tolist()) & set(np.delete(groups, val).tolist())


def test_ten_groups_give_the_shares() -> None:
    groups = np.repeat(np.arange(10), 10)
    parts = divide(np.arange(100) % 2, seed=0, calibration=True, groups=groups)
    assert [len(rows) for rows in parts.values()] == [60, 10, 10, 20]
    with pytest.raises(ValueError, match="there are 2 groups; at least 3 are needed"):
        divide(np.arange(100) % 2, seed=0, groups=groups // 5)


@pytest.mark.parametrize("calibration", [False, True])
def test_a_small_class_among_many_is_in_every_split(calibration: bool) -> None:
    for seed in range(20):
        rng, least = np.random.default_rng(seed), 7 if calibration else 5
        labels = rng.permutation(np.repeat(np.arange(21), np.append(rng.integers(20, 60, 20), least)))
        parts = divide(labels, seed=0, calibration=calibration)
        assert all((labels[rows] == 20).any() for rows in parts.values()), seed
        val = held_out_rows(labels, len(labels) // 10)
        assert (labels[val] == 20).sum() == 2, seed
        assert not np.array_equal(val, held_out_rows(labels, len(labels) // 10, seed=1))


def test_a_class_that_is_too_small_is_named() -> None:
    labels = np.repeat([0, 1], [40, 6])
    with pytest.raises(ValueError, match="class 'dog' has 6 images; it needs at least 7"):
        divide(labels, seed=0, calibration=True, class_names=("cat", "dog"))
