"""The manifest of a run's images: what it holds, how it is kept, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import fill

from dmpo_explore.config import DataConfig
from dmpo_explore.data import manifest as manifest_module
from dmpo_explore.data.image_files import open_image
from dmpo_explore.data.images import images_of
from dmpo_explore.data.manifest import make_manifest, manifest_file, read_manifest, write_manifest


def test_it_lists_every_file_with_its_split(tmp_path: Path) -> None:
    data = DataConfig(str(fill(tmp_path / "own")))
    seen: list[tuple[int, int]] = []
    made = make_manifest(data, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40) and made.data == "own" and made.class_names == ("cat", "dog")
    assert made.counts == {"train": 32, "val": 4, "test": 4} and not made.unused
    assert "80/10/10 % of every class into train, val, test, with seed 0" in made.described()
    paths = [row.path for rows in made.files.values() for row in rows]
    assert sorted(paths) == sorted(f"{name}/{i:02d}.png" for name in ("cat", "dog") for i in range(20))
    for split in made.counts:
        now, kept = images_of(data, split), made.images(data, split)
        assert np.array_equal(now.labels, kept.labels)
        assert all(np.array_equal(one, other) for one, other in zip(now, kept, strict=True))
        assert kept.fingerprint == made.fingerprints[split] and now.fingerprint == ""


@pytest.mark.parametrize("most", [20_000, 10])
def test_it_comes_back_from_its_file(tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "MOST_PLAIN", most)
    folder = fill(tmp_path / "own", ("a, b", 'ü\n"c"', *(["d\re"] if most > 100 else [])), 8)
    made = make_manifest(DataConfig(str(folder), train_size=4))
    assert read_manifest(tmp_path) is None
    write_manifest(tmp_path, made)
    file = manifest_file(tmp_path)
    assert file is not None and file.name == ("manifest.csv" if most > 100 else "manifest.csv.gz")
    again = read_manifest(tmp_path)
    assert again is not None and len(again.unused) == (8 if most > 100 else 4)
    assert all(getattr(made, key) == getattr(again, key) for key in made.__dataclass_fields__)


def test_known_data_have_fingerprints_instead_of_rows(tmp_path: Path) -> None:
    data = DataConfig("digits", train_size=40)
    write_manifest(tmp_path, make_manifest(data))
    made = read_manifest(tmp_path)
    assert made is not None and not made.files and (tmp_path / "manifest.csv").stat().st_size < 1000
    assert made.images(data, "train").fingerprint == made.fingerprints["train"]
    assert len(made.images(data, "test")) == 359
    with pytest.raises(ValueError, match="digits train is not what the run was trained with"):
        made.images(replace(data, seed=1), "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is not a readable manifest"),
        (lambda text: text[:400], "is not a readable manifest"),
        (lambda text: "[" * 100_000, "is not a readable manifest: nested too deeply"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 9'), "format_version=9; this program"),
        (lambda text: text.replace("path,bytes", "path,size"), "its second line must be path,bytes"),
        (lambda text: text.rstrip().rpartition("\n")[0] + "\n", "rows are not those that its first line counts"),
        (lambda text: text[:-2] + "7\n", "is damaged"),
        (lambda text: text.replace('["cat", "dog"]', '"cat"'), "class_names must be a list"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, change: object, message: str) -> None:
    write_manifest(tmp_path, make_manifest(DataConfig(str(fill(tmp_path / "own", count=6)))))
    file = tmp_path / "manifest.csv"
    file.write_text(change(file.read_text()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as error:
        read_manifest(tmp_path)
    assert str(file) in str(error.value)


def test_a_packed_file_that_is_cut_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "MOST_PLAIN", 1)
    write_manifest(tmp_path, make_manifest(DataConfig(str(fill(tmp_path / "own", count=6)))))
    file = tmp_path / "manifest.csv.gz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"manifest\.csv\.gz is not a readable manifest"):
        read_manifest(tmp_path)


def test_reading_an_image_compares_its_bytes(tmp_path: Path) -> None:
    data = DataConfig(str(fill(tmp_path / "own")))
    made = make_manifest(data)
    first = tmp_path / "own" / made.files["test"][0].path
    images = made.images(data, "test")
    kept, size = first.read_bytes(), first.stat().st_size
    other = bytes([*kept[:-1], kept[-1] ^ 1])
    first.write_bytes(other)
    assert first.stat().st_size == size and made.images(data, "test")  # sizes alone do not tell
    with pytest.raises(ValueError, match=rf"{first.name} has been changed since the training"):
        images[0]
    first.write_bytes(kept + b"0")
    with pytest.raises(ValueError, match="1 of 4 test images in .* have been changed since the training"):
        made.images(data, "test")
    first.unlink()
    with pytest.raises(FileNotFoundError, match=rf"no file .*{first.name}"):
        images[0]
    with pytest.raises(FileNotFoundError, match="1 of 4 test images are not in .*--data FOLDER"):
        made.images(data, "test")
    with pytest.raises(ValueError, match=r"no split 'calibration' when it was trained \(it had train, val, test\)"):
        made.images(data, "calibration")


def test_the_bytes_that_are_compared_are_those_that_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(str(fill(tmp_path / "own")))
    images = make_manifest(data).images(data, "test")
    first, second, opened, opens = images.pixels.paths[0], images.pixels.paths[1], Path.open, list[Path]()
    kept = images[0]

    def changing(path: Path, *args: Any, **kwargs: Any) -> Any:
        opens.append(path)
        if opens.count(first) == 2:
            shutil.copyfile(second, first)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", changing)
    np.testing.assert_array_equal(images[0], kept)


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "own" / "train", count=12)
    (tmp_path / "own" / "train" / "empty").mkdir()
    with pytest.raises(ValueError, match="class 'empty' has no training image"):
        make_manifest(DataConfig(str(tmp_path / "own")))
    with pytest.raises(ValueError, match=r"'empty' has no training image among the 6 drawn ones \(train_size\)"):
        make_manifest(DataConfig(str(tmp_path / "own"), train_size=6))
    (tmp_path / "own" / "train" / "void").mkdir()
    with pytest.raises(ValueError, match="the classes empty, void have no training image"):
        make_manifest(DataConfig(str(tmp_path / "own")))
    fill(tmp_path / "tests" / "test", count=2)
    with pytest.raises(FileNotFoundError, match="has no training images"):
        make_manifest(DataConfig(str(tmp_path / "tests")))


def test_its_json_line_is_for_people_too(tmp_path: Path) -> None:
    write_manifest(tmp_path, make_manifest(DataConfig(str(fill(tmp_path / "own")))))
    head, columns, row, *_ = (tmp_path / "manifest.csv").read_text().splitlines()
    assert json.loads(head)["class_names"] == ["cat", "dog"] and json.loads(head)["counts"]["test"] == 4
    assert columns == "path,bytes,sha256,split,label"
    path, size, digest, split, label = row.split(",")
    assert open_image(tmp_path / "own" / path).shape == (8, 8, 3) and split == "train" and label == "0"
    assert int(size) == (tmp_path / "own" / path).stat().st_size and len(digest) == 64
