"""Unlabelled images: counted, checked against the splits by content, and listed in the manifest."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dmpo_explore.data.unlabelled import UNLABELLED, unlabelled_files
from image_files import fill, paint
from PIL import Image

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data import DataCheck, Finding, check_data, data_stamp, load_images, open_data, training_plan
from dmpo_explore.data.labels import MISSING
from dmpo_explore.data.manifest import Manifest, make_manifest, read_manifest, write_manifest


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Ten unlabelled images, in subfolders too, beside 40 of two classes."""
    fill(tmp_path / "own")
    for i in range(10):
        paint(tmp_path / "more" / f"part{i % 2}" / f"{i}.png", 200 + i)
    return DataConfig(str(tmp_path / "own"), unlabelled=str(tmp_path / "more"))


def of(found: DataCheck) -> list[Finding]:
    return [finding for finding in found.findings if finding.check == UNLABELLED]


def listed(data: DataConfig) -> Manifest:
    return make_manifest(data, check=check_data(data))


def test_they_are_counted_and_in_no_split(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "more" / "note.txt").write_text("not an image")
    found = check_data(data)
    assert found.ready and found.findings == () and found.n_unlabelled == 10 and found.n_images == 40
    assert found.ledger[UNLABELLED].described() == "11 found: 10 unlabelled; left out: 1 of another format"
    assert sum(int(counts.sum()) for counts in found.counts.values()) == 40
    plan = training_plan(found, Config(data))
    assert plan["images per epoch"] == "42 in 1 step of 64, 10 of them unlabelled"
    assert DataConfig("digits").unlabelled is None and unlabelled_files(DataConfig("digits")) == []


@pytest.mark.parametrize("split", ["val", "calibration", "test"])
def test_one_that_is_held_out_stops_a_training_and_one_of_train_does_not(
    data: DataConfig, tmp_path: Path, split: str
) -> None:
    for part, first in (("train", 0), ("val", 60), ("calibration", 70), ("test", 80)):
        fill(tmp_path / "divided" / part, first=first, count=5)
    data = replace(data, name=str(tmp_path / "divided"))
    shutil.copy(tmp_path / "divided" / "train" / "dog" / "01.png", tmp_path / "more" / "of train.png")
    (note,) = of(check_data(data))
    assert not note.stops and note.text.startswith("1 unlabelled image is in train too: an epoch trains on it twice, ")
    shutil.copy(tmp_path / "divided" / split / "cat" / "02.png", tmp_path / "more" / "secret.png")
    stop, _ = of(check_data(data))
    assert stop.stops and stop.text.startswith("1 unlabelled image is in val, calibration or test too; remove them")
    assert stop.places == (f"{tmp_path}/more/secret.png = {split}/cat/02.png [{split}]",)


def test_files_are_compared_with_arrays_by_their_pixels(data: DataConfig, tmp_path: Path) -> None:
    data = replace(data, name="digits")
    assert of(check_data(data, quick=True)) == []
    Image.fromarray(load_images("digits", "test")[7]).save(tmp_path / "more" / "digit.png")
    for quick in (True, False):
        (stop,) = of(check_data(data, quick=quick))
        assert stop.stops and stop.places == (f"{tmp_path}/more/digit.png = image 7 [test]",)


def test_broken_ones_stop_or_are_left_out(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "more" / "bad.png").write_bytes(b"\x89PNG and no more")
    (stop,) = of(check_data(data))
    assert stop.stops and stop.text.startswith(f"{tmp_path}/more/bad.png ") and "--skip-broken" in stop.text
    data = replace(data, skip_broken=True)
    found = check_data(data)
    (note,) = of(found)
    assert not note.stops and note.text == f"1 image is left out as broken or too large: {tmp_path}/more/bad.png"
    assert found.ready and found.n_unlabelled == 10 and found.ledger[UNLABELLED].left_out == {"broken or too large": 1}
    manifest = make_manifest(data, check=found)
    assert len(manifest.unlabelled) == 10 and [*manifest.left_out] == [f"{tmp_path}/more/bad.png"]
    assert len(make_manifest(data).unlabelled) == 10  # it makes the check itself


def test_a_broken_one_takes_no_labelled_image_of_its_relative_name_away(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "cat" / "02.png", 220)
    (tmp_path / "cat" / "01.png").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    found = check_data(DataConfig("own", unlabelled="cat", skip_broken=True))
    assert [*found.left_out] == [str(tmp_path / "cat" / "01.png")] and len(found.hashes) == 41
    manifest = make_manifest(DataConfig("own", unlabelled="cat", skip_broken=True), check=found)
    assert sum(map(len, manifest.files.values())) == 40 and len(manifest.unlabelled) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("own/more", ["of its images are the data's too", "; move it out"]),
        (".", ["of its images are the data's too", "; move it out"]),
        ("own", ["of its images are the data's too", "; move it out"]),
        ("nowhere", ["nowhere", "is no folder"]),
        ("empty", ["empty", "holds no images"]),
    ],
)
def test_a_folder_that_is_none_or_shares_images_with_the_data_is_the_one_finding(
    data: DataConfig, tmp_path: Path, more: str, words: list[str]
) -> None:
    (tmp_path / "more").rename(tmp_path / "own" / "more")
    (tmp_path / "empty").mkdir()
    found = check_data(replace(data, unlabelled=str(tmp_path / more)))
    (stop,) = of(found)
    assert found.findings[0] == stop and stop.stops
    assert all(word in stop.text for word in words)


def test_the_manifest_lists_them_and_finds_them_again(data: DataConfig, tmp_path: Path) -> None:
    made = replace(listed(data), seen=("0" * 64, "digits train 7"))
    assert made.described().startswith("32 train, 4 val, 4 test, 10 unlabelled, 2 classes; ")
    assert [row.path for row in made.unlabelled][:2] == ["part0/0.png", "part0/2.png"]
    (tmp_path / "run").mkdir()
    write_manifest(tmp_path / "run", made)
    read = read_manifest(tmp_path / "run")
    assert read is not None and read.unlabelled == made.unlabelled and read.files == made.files
    assert read.ledger == made.ledger and read.seen == made.seen and read.counts == {"train": 32, "val": 4, "test": 4}
    images = read.unlabelled_images(data)
    assert images is not None and len(images) == 10 and (images.labels == MISSING).all() and images.fingerprint
    assert np.array_equal(images[1], np.asarray(Image.open(tmp_path / "more" / "part0" / "2.png")))
    outside = replace(read.unlabelled[0], path=str(tmp_path / "own" / "cat" / "00.png"))
    with pytest.raises(ValueError, match="the manifest lists 1 files outside"):
        replace(read, unlabelled=(outside,)).unlabelled_images(data)
    paint(tmp_path / "more" / "part0" / "0.png", 99)
    with pytest.raises(ValueError, match=r"part0/0\.png has been changed since the training"):
        images[0]
    (tmp_path / "more" / "part0" / "0.png").unlink()
    lost = r"1 of 10 unlabelled images are not in .*more \(part0/0\.png\).* resume the run with --unlabelled FOLDER"
    with pytest.raises(FileNotFoundError, match=lost):
        read.unlabelled_images(data)


def test_beside_a_known_data_set_its_arrays_stay_as_they_are(data: DataConfig, tmp_path: Path) -> None:
    data = replace(data, name="digits", train_size=40)
    made = listed(data)
    write_manifest(tmp_path, made)
    read = read_manifest(tmp_path)
    before = data_stamp(data)
    paint(tmp_path / "more" / "new.png", 1)
    assert data_stamp(data) != before and not data_stamp(replace(data, unlabelled=None))
    assert read is not None and read.counts == {"train": 40, "val": 143} and len(read.unlabelled) == 10
    assert len(read.images(data, "train")) == 40 and not read.files


@pytest.mark.parametrize("row", ["../a.png,1,{0},unlabelled,-1", "a.png,1,{0},unlabelled,0", "a.png,1,{0},train,-1"])
def test_a_damaged_row_is_named(data: DataConfig, tmp_path: Path, row: str) -> None:
    write_manifest(tmp_path, listed(data))
    file = tmp_path / "manifest.csv"
    file.write_text(file.read_text() + row.format("0" * 64) + "\n")
    with pytest.raises(ValueError, match=r"manifest\.csv is not a readable manifest: .*a\.png"):
        read_manifest(tmp_path)


def test_config_and_stamp_know_the_folder(data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config.from_json(Config(data).to_json()) == Config(data)
    monkeypatch.chdir(tmp_path)
    assert open_data(DataConfig("own", unlabelled="more")).located() == replace(data, seed=0)
    before = data_stamp(data)
    paint(tmp_path / "more" / "new.png", 1)
    assert data_stamp(data) != before
