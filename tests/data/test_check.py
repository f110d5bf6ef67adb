"""The data check: every form of data, everything that is wrong at once, and what a training does with it.

Covers check, image_facts, findings, and the listing of folders.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import BROKEN, CLASSES, TOO_LARGE, clean_folder, dirty_folder, draw, fill, paint
from PIL import Image

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data import data_stamp, findings, image_facts, open_data
from dmpo_explore.data.check import DataCheck, check_data, training_plan
from dmpo_explore.data.image_files import open_image
from dmpo_explore.data.known import DATASETS
from dmpo_explore.data.manifest import make_manifest, read_manifest, write_manifest


def kinds(found: DataCheck) -> list[str]:
    return [finding.check for finding in found.findings]


def totals(found: DataCheck) -> dict[str, int]:
    return {split: int(counts.sum()) for split, counts in found.counts.items()}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dirty_folder(tmp_path_factory.mktemp("dirty"))


def test_everything_that_is_wrong_is_found_at_once(dirty: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = check_data(DataConfig(str(dirty)), lambda *at: seen.append(at))
    by_kind = {finding.check: finding for finding in found.findings}
    stopping = ["splits", "broken", "too large"]
    assert kinds(found) == [*stopping, "leakage", "conflicting labels", "duplicates", "unused"]
    assert [finding.stops for finding in found.findings] == [True] * 3 + [False] * 4 and not found.ready
    assert "test/zebra is a class that train does not have (cat, dog, owl)" in by_kind["splits"].text
    assert by_kind["broken"].places == BROKEN and by_kind["too large"].places == (TOO_LARGE,)
    assert by_kind["leakage"].places == ("train/dog/05.jpg = test/dog/01.jpg",)
    assert by_kind["duplicates"].places == ("train/owl/05.jpg = train/owl/twin.jpg",)
    assert by_kind["conflicting labels"].places == ("train/cat/07.jpg = train/owl/both.jpg",)
    assert by_kind["unused"].places == ("train/cat/IMG_1.heic",)
    assert totals(found) == {"train": 27, "val": 6, "test": 10} and found.class_names == (*CLASSES, "zebra")
    assert found.counts["test"].tolist() == [3, 3, 3, 1] and found.imbalance == np.inf
    assert found.formats == {"JPEG": 39, "not readable": 3, "PNG": 1}
    assert seen[-1] == (43, 43) and found.bytes == sum(p.stat().st_size for p in dirty.rglob("*.*g"))
    with pytest.raises(ValueError, match=r"^3 findings stop this training: \(1\) .*\(2\) 3 images.*\(3\)"):
        found.require()
    sizes = found.sizes()
    assert sizes is not None and sizes.smallest == (12, 9) and sizes.largest == (21, 9)
    assert sizes.aspect == pytest.approx((12 / 9, 16 / 9, 21 / 9), rel=0.1)
    narrow = replace(found, widths=np.array([30, 20]), heights=np.array([10, 40])).sizes()
    assert narrow is not None and (narrow.smallest, narrow.largest) == ((30, 10), (20, 40)) and not found.thumbnails


def test_broken_images_can_be_left_out_and_the_manifest_says_so(dirty: Path, tmp_path: Path) -> None:
    shutil.copytree(dirty, tmp_path / "own")
    shutil.rmtree(tmp_path / "own" / "test" / "zebra")
    data = DataConfig(str(tmp_path / "own"), skip_broken=True, train_size=20)
    found = check_data(data)
    assert found.ready and {*found.left_out} == {*BROKEN, TOO_LARGE}
    assert "left out" in kinds(found) and totals(found) == {"train": 20, "val": 6, "test": 9}
    made = make_manifest(data, check=found)
    write_manifest(tmp_path, made)
    again = read_manifest(tmp_path)
    assert again is not None and again.left_out == made.left_out and {*again.left_out} <= {*again.unused}
    used = {row.path for rows in made.files.values() for row in rows}
    assert not used & {*found.left_out} and "4 left out as broken (train/cat/01.jpg" in made.described()
    assert made.images(data, "train")[0].shape[2] == 3
    assert made.fingerprints == make_manifest(data).fingerprints  # which checks by itself
    with pytest.raises(ValueError, match=r"2 findings.*01\.jpg.*huge\.png"):
        check_data(replace(data, skip_broken=False, train_size=None)).require()


def test_without_broken_images_the_split_is_decided_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train is just large enough for a calibration split, and too small without what is broken."""
    monkeypatch.setattr("dmpo_explore.data.splits.LEAST_CALIBRATION", 1)
    own = tmp_path / "own"
    for part, count in (("train", 7), ("test", 3)):
        fill(own / part, ("cat", "dog"), count)
    (own / "train" / "cat" / "00.png").write_bytes(b"broken")
    data = DataConfig(str(own), skip_broken=True)
    found = check_data(data)
    assert found.ready and "calibration" not in totals(found)
    assert totals(found) == make_manifest(data).counts


def test_every_form_of_data_gives_the_same_counts(tmp_path: Path) -> None:
    folder = clean_folder(tmp_path / "own")
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        rows = [
            (path.relative_to(tmp_path), path.parent.name, path.parts[-3]) for path in sorted(folder.rglob("*.jpg"))
        ]
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
    forms = [
        DataConfig(str(folder)),
        DataConfig(train_dir=str(folder / "train"), test_dir=str(folder / "test")),
        DataConfig(str(tmp_path / "list.csv")),
    ]
    for data in forms:
        found = check_data(data, thumbnails=2)
        assert totals(found) == {"train": 24, "val": 6, "test": 9} and not found.findings
        assert found.class_names == CLASSES and len(found.hashes) == 39 and found.ready
        assert {name: len(images) for name, images in found.thumbnails.items()} == dict.fromkeys(CLASSES, 2)
        assert {row.sha256 for rows in make_manifest(data).files.values() for row in rows} == {*found.hashes.values()}
    undivided = check_data(DataConfig(str(folder / "train"), calibration=True))
    assert totals(undivided) == {"train": 12, "val": 6, "calibration": 6, "test": 6}


def test_known_arrays_are_counted_without_a_look_where_that_is_enough() -> None:
    found = check_data(DataConfig("digits"), quick=True)
    assert totals(found) == {"train": 1295, "val": 143, "test": 359} and found.sizes() is None and found.ready
    thorough = check_data(DataConfig("digits"), thumbnails=1)
    assert len(thorough.hashes) == 1797 and len(thorough.thumbnails) == 10


@pytest.mark.parametrize(
    ("spoil", "text", "error"),
    [
        (lambda own: shutil.rmtree(own / "test"), "has no test images .*--test-dir", FileNotFoundError),
        (lambda own: shutil.rmtree(own / "train"), "has no training images", FileNotFoundError),
        (lambda own: (own / "train" / "new").mkdir(), "class 'new' has no training image", ValueError),
        (lambda own: (own / "TEST").mkdir(), "two folders for the split test", ValueError),
        (lambda own: draw(own / "sheep" / "1.png"), "folders of splits .* beside folders of images", ValueError),
    ],
)  # fmt: skip
def test_what_stops_a_training_has_its_own_kind_of_error(
    tmp_path: Path, spoil: object, text: str, error: type[Exception]
) -> None:
    own = clean_folder(tmp_path / "own", 4, 2)
    assert callable(spoil)
    spoil(own)
    found = check_data(DataConfig(str(own)))
    with pytest.raises(error, match=text):
        found.require()
    assert found.n_images and not found.ready  # what is there is counted nevertheless


def test_one_class_is_too_few(tmp_path: Path) -> None:
    found = check_data(DataConfig(str(fill(tmp_path / "own", ("dog",), 12))))
    assert not found.ready
    with pytest.raises(ValueError, match=r"one class only \('?dog'?\); a classifier needs at least 2"):
        found.require()


def test_an_image_of_a_reader_that_cannot_be_read_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def __getitem__(self, index: int) -> np.ndarray:
            if index == 7:
                raise ValueError("shard 3 is damaged")
            return np.full((4, 4, 3), index % 251, np.uint8)

    source = DATASETS["digits"]
    broken = replace(source, read=lambda split, root: source.read(split, root)._replace(pixels=Reader()))
    monkeypatch.setitem(DATASETS, "digits", broken)
    found = check_data(DataConfig("digits"), thumbnails=2)
    assert not found.ready and "shard 3 is damaged" in found.findings[0].text and found.thumbnails


def test_what_cannot_be_divided_is_counted_and_checked(tmp_path: Path) -> None:
    draw(tmp_path / "own" / "cat" / "1.png").write_bytes(b"broken")
    found = check_data(DataConfig(str(fill(tmp_path / "own", ("dog",), 3))))
    assert totals(found) == {image_facts.NO_SPLIT: 4} and kinds(found) == ["splits", "broken"]


def test_what_is_nowhere_is_a_finding() -> None:
    assert "unknown data 'nowhere'" in check_data(DataConfig("nowhere")).findings[0].text
    found = check_data(DataConfig(train_dir="nowhere", test_dir="either"))
    assert found.findings[0].text == f"no folder {Path('nowhere').absolute()}" and not found.ready


def test_unequal_classes_and_missing_ones_are_notes(tmp_path: Path) -> None:
    own = fill(tmp_path / "own" / "train", ("cat",), 30)
    fill(own, ("dog",), 3, first=100)
    paint(tmp_path / "own" / "test" / "cat" / "1.png", 200)
    found = check_data(DataConfig(str(tmp_path / "own")))
    assert kinds(found) == ["classes", "imbalance"] and found.ready
    assert "a class has no test image (dog)" in found.findings[0].text
    assert "class 'cat' (28) has 28 times as many training images as 'dog' (1)" in found.findings[1].text


def test_duplicates_in_one_class_and_across_cut_splits(tmp_path: Path) -> None:
    own = fill(tmp_path / "own", count=20)
    for i in range(20):  # every cat twice: some copies end in another split
        (own / "cat" / f"copy{i}.png").write_bytes((own / "cat" / f"{i:02d}.png").read_bytes())
    found = check_data(DataConfig(str(own)))
    places = {finding.check: len(finding.places) for finding in found.findings}
    assert sorted(places) == ["duplicates", "leakage"] and sum(places.values()) == 20
    assert kinds(found)[0] == "leakage" and " of them in train" in found.findings[0].text


def test_readable_names_and_grouped_tables(tmp_path: Path) -> None:
    fill(tmp_path / "own", count=20)
    (tmp_path / "names.json").write_text('{"cat": "Katze"}')
    found = check_data(DataConfig(str(tmp_path / "own"), class_names=str(tmp_path / "names.json")), thumbnails=1)
    assert found.class_names == ("Katze", "dog") and [*found.thumbnails] == ["Katze", "dog"]
    rows = [f"own/{name}/{i:02d}.png,{name},video {i // 2}" for name in ("cat", "dog") for i in range(20)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows]))
    found = check_data(DataConfig(str(tmp_path / "list.csv"), class_names=str(tmp_path / "names.json")))
    assert found.class_names == ("Katze", "dog") and found.ready and ", whole groups, with seed 0" in found.rule
    assert sum(totals(found).values()) == 40 and all(count % 4 == 0 for count in totals(found).values())


def test_a_plan_says_what_a_training_does(tmp_path: Path) -> None:
    data = DataConfig(str(clean_folder(tmp_path / "own")))
    plan = training_plan(check_data(data), Config(data))
    assert plan["split"].startswith("train is train/, test is test/; val is 10 % of train")
    assert plan["images per epoch"] == "24 in 1 step of 64" and plan["val"] == "6 (2 a class)"
    assert plan["resizing"].endswith("to 70 x 70 pixels, squashed to a square")


# -- one look --


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_a_look_agrees_with_what_a_training_reads(tmp_path: Path, suffix: str) -> None:
    path = draw(tmp_path / f"a.{suffix}", 130, 70)
    look = image_facts.look_at(path, thumbnail=True)
    assert (look.width, look.height, look.problem, look.bytes) == (130, 70, "", path.stat().st_size)
    assert look.thumbnail is not None and look.thumbnail.shape == (52, 96, 3)
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 12)):
        path.write_bytes(whole[:end])
        try:
            open_image(path)
            readable = True
        except ValueError:
            readable = False
        assert (image_facts.look_at(path).problem == "") == readable, end
    assert "name too long" in image_facts.look_at(tmp_path / f"{300 * 'x'}.png").problem


def test_a_look_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "png", "tif"):
        Image.new("RGB", (40, 20), "red").save(path := tmp_path / f"a.{suffix}", exif=exif)
        look = image_facts.look_at(path, thumbnail=True)
        assert open_image(path).shape == (look.height, look.width, 3) == (40, 20, 3)
        assert look.thumbnail is not None and look.thumbnail.shape == (40, 20, 3)


def test_files_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [draw(tmp_path / f"{i}.png") for i in range(8)]
    first = image_facts.look_at_all(paths)
    monkeypatch.setattr(image_facts, "look_at", lambda *_: pytest.fail("looked again"))
    assert image_facts.look_at_all(paths) == first
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    broken = Path("broken.png")
    broken.write_text("no image")
    named = [image_facts.look_at_all([path])[0].problem.split()[0] for path in (broken, broken.absolute())]
    assert named == ["broken.png", str(tmp_path / "broken.png")]  # each as it was asked for
    monkeypatch.setattr(image_facts, "look_at", lambda *_: pytest.fail("looked again"))
    draw(paths[3], 20)
    with pytest.raises(pytest.fail.Exception):
        image_facts.look_at_all(paths)


def test_a_listing_has_no_rule_that_fails(tmp_path: Path) -> None:
    own = dirty_folder(tmp_path / "own")
    draw(own / "beside.png")
    found = open_data(DataConfig(str(own))).listing()
    assert ("test", "zebra") in found.classes and len(found.images) == 43
    assert {path.name for path in found.unused} == {"IMG_1.heic", "beside.png"}
    before = data_stamp(DataConfig(str(own)))
    assert before == data_stamp(DataConfig(str(own)))
    draw(own / "train" / "dog" / "00.jpg", 30)
    assert before != (after := data_stamp(DataConfig(str(own))))
    (own / "train" / "empty").mkdir()
    assert data_stamp(DataConfig(str(own))) not in (before, after)
    assert {*findings.CHECKS} > {"leakage", "broken", "splits"}
