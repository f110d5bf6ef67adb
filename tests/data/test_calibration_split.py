"""The calibration split: by default where it is large enough, never of images that were trained or chosen on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmpo_explore.config import DataConfig
from dmpo_explore.data.image_set import Pool
from dmpo_explore.data.images import images_of, open_data
from dmpo_explore.data.known import DATASETS
from dmpo_explore.data.manifest import make_manifest, manifest_splits, write_manifest
from dmpo_explore.data.splits import cuts_calibration
from dmpo_explore.runs.run_files import read_config


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
    assert open_data(DataConfig("cifar10")).cut == ("val", "calibration")  # 5,000 each, known without reading
    assert open_data(DataConfig("cifar10", calibration=False)).cut == ("val",)


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
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(100):
            Image.new("RGB", (2, 2), (i, 0, 0)).save(tmp_path / label / f"{i}.png")
    assert open_data(DataConfig(str(tmp_path))).splits == ("train", "val", "test")  # 20 images would be too few
    manifest = make_manifest(DataConfig(str(tmp_path), calibration=True))
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
