"""The manifest of a run's images: what it holds, how it is kept, what it refuses, and what has changed since."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import fill, paint

from dmpo_explore.config import DataConfig
from dmpo_explore.data import check_data, open_data, open_image
from dmpo_explore.data import manifest as manifest_module
from dmpo_explore.data.kinds import relative_path
from dmpo_explore.data.looks import hashes_of
from dmpo_explore.data.manifest import (
    Differences,
    make_manifest,
    manifest_check,
    manifest_file,
    read_manifest,
    write_manifest,
)
from dmpo_explore.utils.files import sha256


def test_it_lists_every_file_and_says_how_far_it_is(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = make_manifest(DataConfig(str(fill(tmp_path / "own"))), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40) and made.data == "own" and made.rows("unused").empty
    assert "80/10/10 % of every class into train, val, test, with seed 0" in made.described()
    assert sorted(made.frame["path"]) == sorted(f"{name}/{i:02d}.png" for name in ("cat", "dog") for i in range(20))


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
    assert again is not None and len(again.rows("unused")) == (8 if most > 100 else 4)
    assert again.frame.astype(str).equals(made.frame.astype(str))
    assert all(getattr(made, key) == getattr(again, key) for key in made.__dataclass_fields__ if key != "frame")


def test_known_data_have_fingerprints_instead_of_rows(tmp_path: Path) -> None:
    data = DataConfig("digits", train_size=40)
    write_manifest(tmp_path, make_manifest(data))
    made = read_manifest(tmp_path)
    assert made is not None and made.frame.empty and (tmp_path / "manifest.csv").stat().st_size < 1000
    assert len(made.images(data, "test")) == 359
    with pytest.raises(ValueError, match="digits train is not what the run was trained with"):
        made.images(replace(data, seed=1), "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is not a readable manifest"),
        (lambda text: text[:400], "is not a readable manifest"),
        (lambda text: "[" * 100_000, "is not a readable manifest: nested too deeply"),
        (lambda text: text.replace('"format_version": 2', '"format_version": 9'), "format_version=9; this program"),
        (lambda text: text.replace("path,bytes", "path,size"), "its second line must begin with path,bytes"),
        (lambda text: text.rstrip().rpartition("\n")[0] + "\n", "rows are not those that its first line counts"),
        (lambda text: text[:-3] + "7,\n", "is damaged"),
        (lambda text: re.sub("[0-9a-f]{64},test", "ab,test", text, count=1), "is damaged"),
        (lambda text: text.replace("cat/", "../cat/"), "leads out of the data's folder"),
        (lambda text: text.replace('["cat", "dog"]', '"cat"'), "class_names must be a list"),
        (lambda text: text.replace('{"all": 12}', '{"all": "many"}'), "inputs must be numbers"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    data = DataConfig(str(fill(tmp_path / "own", count=6)))
    write_manifest(tmp_path, make_manifest(data, check=check_data(data)))
    file = tmp_path / "manifest.csv"
    file.write_text(change(file.read_text()))
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


def other_byte(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


@pytest.mark.parametrize(
    ("spoil", "split", "error", "words"),
    [
        (longer, "test", ValueError, "1 of 4 test images in .* have been changed since the training"),
        (Path.unlink, "test", FileNotFoundError, "1 of 4 test images are not in .*--data FOLDER"),
        (Path.touch, "calibration", ValueError, r"no split 'calibration' when .* \(it had train, val, test\)"),
        (other_byte, 0, ValueError, "{name} has been changed since the training"),
        (Path.unlink, 0, FileNotFoundError, "no file .*{name}"),
    ],
)
def test_images_that_are_not_those_of_the_training_are_named_when_they_are_opened_or_read(
    tmp_path: Path, spoil: Callable[[Path], object], split: str | int, error: type[Exception], words: str
) -> None:
    data = DataConfig(str(fill(tmp_path / "own")))
    made = make_manifest(data)
    images, first = made.images(data, "test"), tmp_path / "own" / made.rows("test")["path"].iloc[0]
    spoil(first)
    assert spoil is not other_byte or made.images(data, "test")  # sizes alone do not tell
    with pytest.raises(error, match=words.replace("{name}", first.name)):
        made.images(data, split) if isinstance(split, str) else images[split]


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


@pytest.mark.parametrize(
    ("empty", "train_size", "words"),
    [
        (["a"], None, "class 'a' has no training image"),
        (["a"], 6, r"'a' has no training image among the 6 drawn ones \(train_size\)"),
        (["a", "void"], None, "the classes a, void have no training image"),
    ],
)
def test_a_class_without_training_images_is_named(
    tmp_path: Path, empty: list[str], train_size: int | None, words: str
) -> None:
    fill(tmp_path / "own" / "train", count=12)
    for name in empty:
        (tmp_path / "own" / "train" / name).mkdir()
    with pytest.raises(ValueError, match=words):
        make_manifest(DataConfig(str(tmp_path / "own"), train_size=train_size))


def test_its_json_line_is_for_people_too(tmp_path: Path) -> None:
    write_manifest(tmp_path, make_manifest(DataConfig(str(fill(tmp_path / "own")))))
    head, columns, row, *_ = (tmp_path / "manifest.csv").read_text().splitlines()
    assert json.loads(head)["class_names"] == ["cat", "dog"] and json.loads(head)["counts"]["test"] == 4
    assert columns == "path,bytes,sha256,split,label,why"
    path, size, digest, split, label, _ = row.split(",")
    assert open_image(tmp_path / "own" / path).shape == (8, 8, 3) and split == "train" and label == "0"
    assert int(size) == (tmp_path / "own" / path).stat().st_size and len(digest) == 64


def test_a_manifest_of_the_last_release_is_read(tmp_path: Path) -> None:
    """Format 1 has neither why nor group, and says in its first line what was left out and found."""
    data = DataConfig(str(fill(tmp_path / "own")), train_size=4)
    made = make_manifest(data)
    write_manifest(tmp_path, made)
    head, columns, *rows = (tmp_path / "manifest.csv").read_text().splitlines()
    values = json.loads(head) | {"format_version": 1, "left_out": {"cat/broken.png": "cut"}}
    values["ledger"] = {"all": {"found": values.pop("inputs")["all"], "used": {}, "left_out": {}}}
    lines = [json.dumps(values), *(row.rpartition(",")[0] for row in (columns, *rows)), "cat/broken.png,,,unused,"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    older = read_manifest(tmp_path)
    assert older is not None and older.inputs == {"all": 40} and older.fingerprints == made.fingerprints
    assert older.images(data, "test").fingerprint == made.fingerprints["test"]
    assert older.described().endswith("; 1 left out as broken (cat/broken.png)")


def test_who_checks_the_images_counts_the_inputs_again(tmp_path: Path) -> None:
    for split in ("train", "test"):
        fill(tmp_path / "own" / split, count=12, first=30 * (split == "test"))
    data = DataConfig(str(tmp_path / "own"))
    manifest = make_manifest(data, check=check_data(data))
    (tmp_path / "own" / "test" / "cat" / "more.txt").touch()
    found = manifest_check(manifest, data, ["test"])
    assert found.fits and found.described() == "inputs of test: 24 when it was trained, 25 now"


# -- what has changed since --


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
    (tmp_path / "own" / made.rows("train")["path"].iloc[0]).unlink()
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
    data = open_data(DataConfig(str(tmp_path)))
    assert hashes_of(data.kind, ["a/x.png", "nothing.png", "a"]) == [sha256(file), "", ""]
    assert data.inputs.frame["path"].tolist() == ["a/x.png"]
    assert relative_path(file, tmp_path / "a") == "x.png" and relative_path(file, tmp_path / "b") == file.as_posix()
