"""Rules of splits: seeded, stratified, whole groups; when a calibration split is cut, and of which images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import fill

from dmpo_explore.config import DataConfig
from dmpo_explore.data import DATASETS, Pool, images_of, open_data
from dmpo_explore.data.manifest import make_manifest, manifest_splits, write_manifest
from dmpo_explore.data.splits import cuts_calibration, divide, held_out_rows, split_of, stratified_rows
from dmpo_explore.runs.run_files import read_config


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


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda values: np.array(values, dtype=np.int64)),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified_rows_are_distinct_sorted_and_in_proportion(labels: Any, share: float, seed: int) -> None:
    size = max(1, round(share * len(labels)))
    rows = stratified_rows(labels, size, seed=seed)
    assert len(rows) == size
    assert (np.diff(rows) > 0).all()
    exact = np.bincount(labels, minlength=5) * size / len(labels)
    assert (np.abs(np.bincount(labels[rows], minlength=5) - exact) < 1).all()
    assert np.array_equal(rows, stratified_rows(labels, size, seed=seed))


def test_stratified_rows_never_change_and_give_the_least() -> None:
    labels = np.repeat(np.arange(3), [20, 10, 3])
    assert stratified_rows(labels, 6).tolist() == stratified_rows(labels, 6, seed=0).tolist()
    assert np.bincount(labels[stratified_rows(labels, 3, least=2)]).tolist() == [2, 2, 2]
    assert np.bincount(labels[stratified_rows(labels, 12, least=2)]).tolist() == [7, 3, 2]


FEW: dict[str, Any] = {"seed": 0, "calibration": True}
THREE = np.repeat(np.arange(3), [20, 10, 3])


@pytest.mark.parametrize(
    ("cut", "labels", "how", "words"),
    [
        (
            divide,
            np.repeat([0, 1], [20, 6]),
            FEW | {"class_names": ("a", "b")},
            "class 'b' has 6 images; .* at least 7 to",
        ),
        (divide, np.repeat([0, 1, 2, 3], [20, 6, 5, 6]), FEW, "class 2 has 5 images; .*, and so do 2 other classes"),
        (
            divide,
            np.arange(100) % 2,
            {"seed": 0, "groups": np.repeat([0, 1], 50)},
            "there are 2 groups; at least 3 are",
        ),
        (
            stratified_rows,
            THREE,
            {"size": 12, "least": 3, "class_names": ("a", "b", "rare")},
            "class 'rare' has 3 images; it needs at least 4",
        ),
        *((stratified_rows, THREE, {"size": n}, f"cannot draw {n} images: there are 33") for n in (0, -1, 34)),
    ],
)
def test_too_few_images_or_groups_are_named(cut: Any, labels: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cut(labels, **how)


# -- the calibration split: by default where it is large enough --


def parts_of(data: DataConfig, *splits: str) -> list[set[int]]:
    return [set(images_of(data, split).indices.tolist()) for split in splits]


@pytest.mark.parametrize(
    ("size", "per_class", "groups", "expected"),
    [(200, 7, None, True), (199, 7, None, False), (200, 6, None, False), (200, 7, 10, True), (200, 7, 9, False)],
)
def test_the_rule(size: int, per_class: int, groups: int | None, expected: bool) -> None:
    labels = np.repeat([0, 1], [100, per_class])
    of = None if groups is None else np.arange(len(labels)) % groups
    assert cuts_calibration(None, size, labels, of) is expected
    assert cuts_calibration(True, 1, labels, of) and not cuts_calibration(False, size, labels, of)


def test_small_data_have_none_unless_asked() -> None:
    assert open_data(DataConfig("digits")).splits == ("train", "val", "test")
    asked = DataConfig("digits", calibration=True, train_size=100)
    train, val, calibration = parts_of(asked, "train", "val", "calibration")
    assert (len(train), len(val), len(calibration)) == (100, 143, 143)
    assert not train & val and not train & calibration and not val & calibration


def test_large_data_have_one_by_default() -> None:
    assert open_data(DataConfig("cifar10")).division.cut == ("val", "calibration")  # 5,000 each, known without reading
    assert open_data(DataConfig("cifar10", calibration=False)).division.cut == ("val",)


def test_a_run_without_one_gets_one_in_hindsight() -> None:
    """Of images that it did not use; training and val are what they were."""
    data = DataConfig("digits", calibration=False, train_size=100, seed=3)
    train, val, calibration = parts_of(data, "train", "val", "calibration")
    assert len(calibration) == 143 and not calibration & (train | val)
    assert parts_of(data, "calibration") == [calibration]
    labels = images_of(data, "calibration").labels
    assert np.ptp(np.bincount(labels)) <= 2  # every class alike
    with pytest.raises(ValueError, match="trained without one, and 0 images that it did not use are fewer than 143"):
        images_of(DataConfig("digits", calibration=False), "calibration")


def test_groups_are_not_divided_in_hindsight(monkeypatch: pytest.MonkeyPatch) -> None:
    source = DATASETS["digits"]

    def read(split: str, root: Path | None) -> Pool:
        pool = source.read(split, root)
        return pool._replace(groups=np.arange(len(pool.labels)) // 4)

    monkeypatch.setitem(DATASETS, "digits", replace(source, read=read, grouped=True))
    data = DataConfig("digits", calibration=False, train_size=100)
    assert len(images_of(data, "train")) == 100
    with pytest.raises(ValueError, match="its groups, which must stay together, would be divided; train with --calib"):
        images_of(data, "calibration")


def test_folders_are_divided_by_the_rule(tmp_path: Path) -> None:
    data = DataConfig(str(fill(tmp_path / "own", count=100)))
    assert open_data(data).splits == ("train", "val", "test")  # 20 images would be too few
    manifest = make_manifest(replace(data, calibration=True))
    assert manifest.counts == {"train": 120, "val": 20, "calibration": 20, "test": 40}
    write_manifest(tmp_path, manifest)
    assert manifest_splits(tmp_path) == ("train", "val", "calibration", "test")
    (tmp_path / "manifest.csv").write_text("broken", encoding="utf-8")
    assert manifest_splits(tmp_path) == ()


def test_a_run_of_version_0_1_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"data": {"name": "fashion-mnist", "train_size": 100}}', encoding="utf-8")
    with pytest.raises(ValueError, match="config.json: data.calibration is missing: version 0.1 .*; train it again"):
        read_config(path)
    path.write_text('{"data": {"name": "fashion-mnist", "calibration": null}}', encoding="utf-8")
    assert read_config(path).data.calibration is None
