"""What has been added, renamed, changed or removed since a manifest was made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from image_files import fill, paint

from dmpo_explore.config import DataConfig
from dmpo_explore.data.image_data import hash_files, relative_path
from dmpo_explore.data.images import open_data
from dmpo_explore.data.manifest import Differences, make_manifest, manifest_check
from dmpo_explore.utils.files import sha256


def test_every_kind_of_difference_is_found(tmp_path: Path) -> None:
    folder = fill(tmp_path / "own")
    data = DataConfig(str(folder))
    made = make_manifest(data)
    assert manifest_check(made, data) == Differences()
    (folder / "cat" / "03.png").unlink()
    paint(folder / "cat" / "04.png", 999)
    (folder / "dog" / "05.png").rename(folder / "cat" / "dog.png")
    paint(folder / "bird" / "00.png", 500)
    found = manifest_check(made, data)
    assert found == Differences(("cat/03.png",), ("cat/04.png",), (("dog/05.png", "cat/dog.png"),), ("bird/00.png",))
    assert not found.fits and found.described() == (
        "1 missing (cat/03.png), 1 changed (cat/04.png), 1 renamed (dog/05.png is now cat/dog.png), "
        "1 added (bird/00.png)"
    )


def test_only_the_splits_that_are_asked_for_are_hashed(tmp_path: Path) -> None:
    data = DataConfig(str(fill(tmp_path / "own")))
    made = make_manifest(data)
    (tmp_path / "own" / made.files["train"][0].path).unlink()
    seen: list[tuple[int, int]] = []
    assert manifest_check(made, data, ["test"], lambda *at: seen.append(at)).fits and seen == [(4, 4)]
    assert not manifest_check(made, data, ["train"]).fits


def test_images_that_were_not_drawn_are_not_new(tmp_path: Path) -> None:
    data = DataConfig(str(fill(tmp_path / "own")), train_size=4)
    made = make_manifest(data)
    assert manifest_check(made, data) == Differences()
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(FileNotFoundError, match="no folder"):
        manifest_check(made, data)


def test_hashes_and_lists_of_files(tmp_path: Path) -> None:
    file = paint(tmp_path / "a" / "x.png", 1)
    assert hash_files([file, tmp_path / "nothing.png", tmp_path]) == [sha256(file), "", ""]
    assert open_data(DataConfig(str(tmp_path))).names() == ["a/x.png"] and open_data(DataConfig("digits")).names() == []
    assert relative_path(file, tmp_path / "a") == "x.png" and relative_path(file, tmp_path / "b") == file.as_posix()
