"""The data check: what is wrong with images, all of it at once, with the remedy; what is used and what is left out."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import BROKEN, CLASSES, TOO_LARGE, clean_folder, dirty_folder, draw, fill, paint
from PIL import Image

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data import (
    DATASETS,
    DataCheck,
    check_data,
    data_stamp,
    load_images,
    make_manifest,
    open_data,
    training_plan,
)
from dmpo_explore.data import looks as looks_module
from dmpo_explore.data.kinds import LINKED
from dmpo_explore.data.looks import look_at_all


def kinds(found: DataCheck) -> list[str]:
    return [finding.check for finding in found.findings]


def totals(found: DataCheck) -> dict[str, int]:
    return {split: int(counts.sum()) for split, counts in found.counts.items()}


def blurred(path: Path, seed: int, side: int = 48) -> Path:
    """A picture with large shapes, as photographs have."""
    shapes = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shapes).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def pictures(root: Path, *places: str, count: int = 10, first: int = 0) -> Path:
    for number, place in enumerate(places):
        for i in range(count):
            blurred(root / place / f"{i:02d}.png", first + 1000 * number + i)
    return root


def divided(root: Path, **counts: int) -> Path:
    for number, split in enumerate(("train", "test")):
        fill(root / split, count=counts.get(split, 10), first=100 * number)
    return root


def test_everything_that_is_wrong_is_found_at_once(tmp_path: Path) -> None:
    dirty, seen = dirty_folder(tmp_path / "dirty"), list[tuple[int, int]]()
    found = check_data(DataConfig(str(dirty)), lambda *at: seen.append(at))
    by_kind = {finding.check: finding for finding in found.findings}
    stopping = ["splits", "broken", "too large"]
    assert kinds(found) == [*stopping, "leakage", "conflicting labels", "duplicates", "unused"]
    assert [finding.stops for finding in found.findings] == [True] * 3 + [False] * 4 and not found.ready
    assert {check: finding.places for check, finding in by_kind.items()} == {
        "splits": (),
        "broken": BROKEN,
        "too large": (TOO_LARGE,),
        "leakage": ("train/dog/05.jpg = test/dog/01.jpg",),
        "conflicting labels": ("train/cat/07.jpg = train/owl/both.jpg",),
        "duplicates": ("train/owl/05.jpg = train/owl/twin.jpg",),
        "unused": ("train/cat/IMG_1.heic",),
    }
    assert totals(found) == {"train": 26, "val": 6, "test": 10} and found.class_names == (*CLASSES, "zebra")
    assert found.counts["test"].tolist() == [3, 3, 3, 1] and found.imbalance == np.inf
    assert seen[-1] == (43, 43) and sum(found.formats.values()) == found.n_images == 42
    with pytest.raises(ValueError, match=r"^3 findings stop this training: \(1\) .*\(2\) 3 images.*\(3\)"):
        found.require()
    sizes = found.sizes()
    assert sizes is not None and sizes.smallest == (12, 9) and sizes.largest == (21, 9)
    assert sizes.aspect == pytest.approx((12 / 9, 16 / 9, 21 / 9), rel=0.1)


def test_what_is_broken_can_be_left_out_and_the_manifest_says_so(tmp_path: Path) -> None:
    shutil.rmtree(dirty_folder(tmp_path / "own") / "test" / "zebra")
    data = DataConfig(str(tmp_path / "own"), skip_broken=True, train_size=20)
    found = check_data(data)
    assert found.ready and "left out" in kinds(found) and totals(found)["test"] == 9
    made = make_manifest(data, check=found)
    out = {*made.frame["path"][made.frame["why"] == "broken or too large"]}
    assert out == {*BROKEN, TOO_LARGE} and not out & {*made.rows("train", "val", "test")["path"]}
    assert "4 left out as broken (train/cat/01.jpg" in made.described()
    assert made.fingerprints == make_manifest(data).fingerprints  # which checks by itself
    with pytest.raises(ValueError, match=r"2 findings.*01\.jpg.*huge\.png"):
        check_data(replace(data, skip_broken=False, train_size=None)).require()


def test_without_broken_images_the_split_is_decided_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train is just large enough for a calibration split, and too small without what is broken."""
    monkeypatch.setattr("dmpo_explore.data.splits.LEAST_CALIBRATION", 1)
    (divided(tmp_path, train=7) / "train" / "cat" / "00.png").write_bytes(b"broken")
    assert "calibration" in totals(check_data(DataConfig(str(tmp_path))))
    found = check_data(DataConfig(str(tmp_path), skip_broken=True))
    assert found.ready and "calibration" not in totals(found)


# -- messy folders: what stops a training is found before its first step, and all else can be trained on --


def recompressed(root: Path) -> None:
    pictures(root, "train/cat", "train/dog"), pictures(root, "test/cat", "test/dog", first=5000)
    for i in range(4):
        Image.open(root / "test" / "cat" / f"{i:02d}.png").save(root / "train" / "cat" / f"again{i}.jpg", quality=70)
    shutil.copy(root / "test" / "dog" / "01.png", root / "train" / "dog" / "same.png")


def renamed(root: Path, *names: str) -> Path:
    """Twenty images of each class, all different."""
    return fill(root, names, 20)


def spoiled(root: Path, *paths: str, content: bytes = b"no image") -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


MESSY: list[tuple[Callable[[Path], object], type[Exception] | None, str, str]] = [
    (recompressed, None, "leakage", r"5 images of train are copies .*and left out \(first train/cat/again0.jpg = test"),
    (lambda own: [pictures(own, f"{part}/cat", f"{part}/dog") for part in ("train", "test")], ValueError, "classes",
     "the classes cat, dog have no training image; add some"),
    (lambda own: (divided(own), fill(own / "val", first=100, count=3)), ValueError, "splits",
     "all images of val are copies of images in another split, and left out; add others"),
    (lambda own: [paint(own / name / f"{i}.png", 3) for name in ("a", "b") for i in range(20)], ValueError, "classes",
     "the classes a, b have no training image"),
    (lambda own: spoiled(fill(own), "cat/a.png", "cat/b.jpg"), ValueError, "broken",
     r"2 images cannot be read: .*a.png.*; also cat/b.jpg. Replace or remove them, or leave out .* --skip-broken"),
    (lambda own: spoiled(fill(own), "cat/a.png"), ValueError, "broken", "as an image.* or remove it, or leave out"),
    (lambda own: fill(divided(own) / "train", ("owl",), 20, 900), None, "classes", r"^a class has no test image .ow"),
    (lambda own: fill(divided(own) / "train", ("owl", "fox"), 20, 900), None, "classes",
     r"^2 classes have no test image \(fox, owl\)"),
    (lambda own: fill(fill(own), ("owl",), 1, first=99), ValueError, "splits", "'owl' has 1 image; it needs at leas"),
    (lambda own: fill(divided(own) / "train", ("owl",), 1, first=99), ValueError, "splits", "it needs at least 3"),
    (lambda own: fill(own, tuple(f"class {i}" for i in range(300)), 1), ValueError, "splits", "299 other classes"),
    (lambda own: fill(own, tuple(f"class {i}" for i in range(300)), 5), None, "", ""),
    (lambda own: renamed(own, "cat", "Cat", "dog"), None, "names", "names differ in case, .* first 'Cat.* = cat"),
    (lambda own: renamed(own, "caf\u00e9", "cafe\u0301"), None, "names", r"Unicode form.* 'cafe\\u0301.* = caf\\xe9"),
    (lambda own: renamed(own, "cat", "cat "), None, "names", "blanks or invisible .* first 'cat = cat '; some systems"),
    (lambda own: renamed(own, "cat", "ca\u200bt"), None, "names", r"first 'cat = ca\\u200bt'"),
    (lambda own: renamed(own, "cat\n", 'd"o\r,g'), None, "", ""),
    (lambda own: os.rename(fill(own) / "cat", os.fsencode(own) + b"/caf\xe9"), ValueError, "splits",
     r"a class folder whose name is no UTF-8: b'caf\\xe9'; rename it"),
    (lambda own: os.rename(fill(own) / "cat/00.png", os.fsencode(own) + b"/cat/caf\xe9.png"), None, "", ""),
    (lambda own: (divided(own) / "test" / "cat").rename(own / "test" / "cat "), ValueError, "splits",
     r"10 images of test have a class that train does not have \(cat, dog\), first 'cat ' of test/cat /00.png; add it"),
    (lambda own: fill(own, ("cat",)), ValueError, "classes", r"one class only \(cat\); a classifier needs at least 2"),
    (lambda own: fill(fill(own, ("cat",), 5), ("dog",), 60, first=10), None, "imbalance",
     r"'dog' \(4\d\) has \d+ times as many training images as 'cat'"),
    (lambda own: spoiled(divided(own), "train/cat/x.heic", "y.txt"), None, "unused", r"2 files are not used: .*x.heic"),
    (lambda own: (own / "train" / "far").symlink_to(divided(own) / "test" / "cat"), ValueError, "classes", "'far' has"),
    (lambda own: (divided(own) / "train" / "cat" / "far").symlink_to(own / "test"), None, "linked",
     "1 folder is not read: a link, or one that cannot be listed .train/cat/far.; move the images"),
    (lambda own: shutil.rmtree(divided(own) / "test"), FileNotFoundError, "splits", "has no test images .*--test-dir"),
    (lambda own: shutil.rmtree(divided(own) / "train"), FileNotFoundError, "splits", "has no training images .it h"),
    (lambda own: (divided(own) / "train" / "new").mkdir(), ValueError, "classes", "class 'new' has no training image"),
    (lambda own: (divided(own) / "TEST").mkdir(), ValueError, "splits", "two folders for the split test: TEST/ and t"),
    (lambda own: draw(divided(own) / "sheep/1.png"), ValueError, "splits", "of splits .* beside folders of images .s"),
    (lambda own: paint(own / "1.png", 1), ValueError, "splits", "holds no class folders; expected .*CLASS/image.png"),
    (lambda own: (own / "a").mkdir(), ValueError, "splits", r"holds no images \(.*\.png"),
    (lambda own: own.rmdir(), ValueError, "splits", "unknown data '.*own'"),
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize(("make", "error", "check", "words"), MESSY)
def test_a_messy_folder_stops_before_the_training_or_can_be_trained_on(
    tmp_path: Path, make: Callable[[Path], object], error: type[Exception] | None, check: str, words: str
) -> None:
    (own := tmp_path / "own").mkdir()
    make(own)
    found = check_data(DataConfig(str(own)))
    assert found.ready == (error is None), found.findings
    assert not check or any(
        finding.check == check and finding.stops is bool(error) and (check != "names" or finding.places)
        for finding in found.findings
    )
    if error is None:
        made = make_manifest(DataConfig(str(own)), check=found)
        assert {split: len(made.images(found.data, split)) for split in made.counts} == totals(found)
        text = " ".join(finding.text for finding in found.findings)
    else:
        with pytest.raises(error) as raised:
            found.require()
        text = str(raised.value)
    assert not words or re.search(words, text), text


@pytest.mark.slow
@settings(max_examples=25)
@given(
    names=st.lists(st.sampled_from(["cat/a.png", "cat/b/c.png", "dog/n.txt", "x.png", "dog/.h/q.png", "dog/é.png"])),
    damaged=st.sets(st.integers(0, 11), max_size=3),
    size=st.none() | st.integers(2, 6),
)  # fmt: skip
def test_every_input_of_any_tree_is_used_or_left_out(names: list[str], damaged: set[int], size: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        own = fill(Path(folder) / "own", count=6)
        for i, name in enumerate(names):
            paint(own / f"{name}.png", 100 + i).rename(own / name)
        for path in (sorted(own.glob("*/0*.png"))[i] for i in damaged):
            path.write_bytes(b"no image")
        found = check_data(DataConfig(str(own), skip_broken=len(damaged) < 2, train_size=size))
        tops = [Path(top) for top, _, _ in os.walk(own)]
        inside = [top for top in tops if not any(part.startswith(".") for part in top.relative_to(own).parts)]
        walked = sum(entry.is_file() and not entry.name.startswith(".") for top in inside for entry in os.scandir(top))
        assert sum(line.found for line in found.ledger.values()) == (walked if found.ledger else 0)
        assert found.ledger or not found.ready
        for line in found.ledger.values():
            assert line.found == sum(line.used.values()) + sum(line.left_out.values())


def test_the_ledger_in_words(tmp_path: Path) -> None:
    spoiled(divided(tmp_path, train=12), "README.md", "train/cat/notes.txt", "train/cat/.hidden.png", "test/beside.png")
    paint(tmp_path / "train" / "cat" / "more" / "deep" / "1.png", 250)
    (tmp_path / "train" / "dog" / "far").symlink_to(tmp_path / "test")
    (tmp_path / "train" / "dog" / "00.png").write_bytes(b"no image")
    found = check_data(DataConfig(str(tmp_path), train_size=10, skip_broken=True))
    assert {place: line.described() for place, line in found.ledger.items()} == {
        "train": "27 found: 10 train, 4 val; left out: 10 not drawn (train_size), 1 of another format, 1 broken or too "
        f"large, 1 {LINKED}",
        "test": "21 found: 20 test; left out: 1 outside the class folders",
        "beside the splits": "1 found: none used; left out: 1 outside the class folders",
    }


# -- images without labels --


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Ten unlabelled images, in subfolders too, beside 40 of two classes."""
    fill(tmp_path / "own")
    for i in range(10):
        paint(tmp_path / "more" / f"part{i % 2}" / f"{i}.png", 200 + i)
    return DataConfig(str(tmp_path / "own"), unlabelled=str(tmp_path / "more"))


def test_unlabelled_images_are_counted_and_in_no_split(data: DataConfig, tmp_path: Path) -> None:
    spoiled(tmp_path / "more", "note.txt")
    found = check_data(data)
    assert found.ready and found.findings == () and found.n_unlabelled == 10 and found.n_images == 40
    assert found.ledger["unlabelled"].described() == "11 found: 10 unlabelled; left out: 1 of another format"
    assert training_plan(found, Config(data))["images per epoch"] == "42 in 1 step of 64, 10 of them unlabelled"
    before = data_stamp(data)
    spoiled(tmp_path / "more", "bad.png")
    (stop,) = check_data(data).findings
    assert data_stamp(data) != before and stop.check == "unlabelled" and stop.stops and "--skip-broken" in stop.text
    found = check_data(replace(data, skip_broken=True))
    assert found.ready and found.n_unlabelled == 10 and kinds(found) == ["unlabelled"]


@pytest.mark.parametrize("split", ["train", "val", "calibration", "test"])
def test_an_unlabelled_copy_is_left_out(data: DataConfig, tmp_path: Path, split: str) -> None:
    for number, part in enumerate(("train", "val", "calibration", "test")):
        fill(tmp_path / "divided" / part, first=10 * number, count=5)
    shutil.copy(tmp_path / "divided" / split / "cat" / "02.png", tmp_path / "more" / "secret.png")
    found = check_data(replace(data, name=str(tmp_path / "divided")))
    (note,) = found.findings
    assert found.n_unlabelled == 10 and not note.stops and note.check == "leakage"
    assert note.places == (f"secret.png [unlabelled] = {split}/cat/02.png",)


@pytest.mark.parametrize("quick", [True, False])
def test_unlabelled_files_are_compared_with_arrays_by_their_pixels(
    data: DataConfig, tmp_path: Path, quick: bool
) -> None:
    Image.fromarray(load_images("digits", "test")[7]).save(tmp_path / "more" / "digit.png")
    (note,) = check_data(replace(data, name="digits"), quick=quick).findings
    assert note.check == "leakage" and note.places == ("digit.png [unlabelled] = test image 7",)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("own/more", "10 of its images are the data's too .*; move it out"),
        (".", "lies in the data's folder .*; move it out"),
        ("own", "lies in the data's folder .*; move it out"),
        ("nowhere", "nowhere.* is no folder"),
        ("empty", "empty .* holds no images"),
    ],
)
def test_unlabelled_images_that_are_none_or_the_datas_own_stop(
    data: DataConfig, tmp_path: Path, more: str, words: str
) -> None:
    (tmp_path / "more").rename(tmp_path / "own" / "more")
    (tmp_path / "empty").mkdir()
    found = check_data(replace(data, unlabelled=str(tmp_path / more)))
    assert found.findings[0].stops
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        found.require()


# -- known data sets, and one look --


def test_known_arrays_are_counted_without_a_look_where_that_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = check_data(DataConfig("digits"), quick=True)
    assert totals(found) == {"train": 1295, "val": 143, "test": 359} and found.sizes() is None and found.ready

    class Reader:
        def __getitem__(self, index: int) -> np.ndarray:
            raise ValueError("shard 3 is damaged")

    source = DATASETS["digits"]
    broken = replace(source, read=lambda split, root: source.read(split, root)._replace(pixels=Reader()))
    monkeypatch.setitem(DATASETS, "digits", broken)
    found = check_data(DataConfig("digits"))
    assert not found.ready and "shard 3 is damaged" in found.findings[0].text


def test_a_plan_says_what_a_training_does(tmp_path: Path) -> None:
    data = DataConfig(str(clean_folder(tmp_path / "own")))
    plan = training_plan(check_data(data), Config(data))
    assert plan["split"].startswith("train is train/, test is test/; val is 10 % of train")
    assert plan["images per epoch"] == "24 in 1 step of 64" and plan["val"] == "6 (2 a class)"
    assert plan["resizing"].endswith("to 70 x 70 pixels, squashed to a square")


def test_files_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = open_data(DataConfig(str(tmp_path))).kind
    names = [draw(tmp_path / "a" / f"{i}.png").relative_to(tmp_path).as_posix() for i in range(8)]
    first = look_at_all(kind, names)
    monkeypatch.setattr(looks_module, "look_at", lambda *_: pytest.fail("looked again"))
    assert look_at_all(kind, names) == first
    draw(tmp_path / names[3], 20)
    with pytest.raises(pytest.fail.Exception):
        look_at_all(kind, names)
