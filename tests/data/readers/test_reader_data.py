"""Data sets by timm's names as sources: splits, classes, manifests, and what has changed since one was made."""

from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dmpo_explore.data.image_data import FileRow
from dmpo_explore.data.readers import hugging_face
from dmpo_explore.data.readers import reader_data as parts
from dmpo_explore.data.readers.hugging_face import Keys, OpenedPart
from dmpo_explore.data.readers.reader_data import ReaderData
from image_files import (
    add,
    coloured,
    coloured_file,
    fill,
    saved_tables,
    shard,
    split_shards,
    table,
    two_shards,
)

from dmpo_explore.config import DataConfig
from dmpo_explore.data import check_data, fetch_data, images_of, load_images, make_manifest, manifest_check, open_data
from dmpo_explore.data.image_set import StoredImages, VerifiedImages
from dmpo_explore.data.names import ReaderName

slow = pytest.mark.slow  # the import of datasets takes seconds


def test_a_row_is_named_by_its_shard_and_what_is_not_drawn_is_unused(tmp_path: Path) -> None:
    data = DataConfig(f"wds/{two_shards(tmp_path / 'shards')}")
    manifest = make_manifest(data)
    names = [row.path for rows in manifest.files.values() for row in rows]
    assert len({*names}) == 40 and names[0].startswith("train/images-0.tar/00") and not manifest.unused
    assert len(make_manifest(replace(data, train_size=10)).unused) == 22


def test_without_a_test_part_val_is_test(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.tar", 0, 40)
    shard(tmp_path / "val-0.tar", 40, 6)
    manifest = make_manifest(DataConfig(f"wds/{tmp_path}"))
    assert manifest.counts == {"train": 36, "val": 4, "test": 6}
    assert manifest.rule.startswith("train is its train, test is its val; val is 10 % of train")


def test_what_has_changed_is_named(tmp_path: Path) -> None:
    folder = two_shards(tmp_path / "shards")
    data = DataConfig(f"wds/{folder}")
    manifest = make_manifest(data)
    before = {split: manifest.images(data, split).fingerprint for split in manifest.files}

    shard(folder / "images-2.tar", 40, 4)  # added: in no split
    found = manifest_check(manifest, data)
    assert found.fits and len(found.added) == 4 and found.added[0] == "train/images-2.tar/0040.png"
    assert {split: manifest.images(data, split).fingerprint for split in manifest.files} == before

    shard(folder / "images-0.tar", 0, 19)  # one is missing
    assert manifest_check(manifest, data).missing == ("train/images-0.tar/0019.png",)
    shard(folder / "images-0.tar", 2, 20)  # other images under other names, and some under the same
    found = manifest_check(manifest, data)
    assert {*found.missing} == {"train/images-0.tar/0000.png", "train/images-0.tar/0001.png"} and not found.changed
    shard(folder / "images-0.tar", 0, 20)
    assert manifest_check(manifest, data).fits and isinstance(manifest.images(data, "train").pixels, VerifiedImages)


def test_changed_bytes_and_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, labels = list(range(40)), [n % 2 for n in range(40)]

    def open_part(*_: Any) -> OpenedPart:
        content = [coloured_file(n) for n in numbers]
        return OpenedPart(StoredImages([f"train/{i}" for i in range(len(content))], content.__getitem__), labels)

    def data() -> ReaderData:
        return ReaderData(DataConfig("hfds/mine"), ReaderName("hfds", "mine"))

    monkeypatch.setattr(parts, "part_names", lambda *_: ("train",))
    monkeypatch.setattr(parts, "open_part", open_part)
    images = data().part("train").pixels
    assert isinstance(images, StoredImages)
    rows = [FileRow(*images.look(i), labels[i]) for i in range(40)]
    pixels = data().verified(rows, "train")
    assert data().compare(rows) == ((), ()) and np.array_equal(pixels[3], np.asarray(coloured(3)))
    numbers[3] = 99
    assert data().compare(rows) == ((), ("train/3",))
    with pytest.raises(ValueError, match="train/3 has been changed since the training"):
        data().verified(rows, "train")[3]
    numbers[3], labels[5] = 3, 0
    assert data().compare(rows) == ((), ("train/5",))
    with pytest.raises(ValueError, match="1 of 40 images of hfds/mine have another class now, first train/5"):
        data().verified(rows, "train")
    labels[5] = 1
    del numbers[39], labels[39]
    assert data().compare(rows) == (("train/39",), ())
    with pytest.raises(FileNotFoundError, match="1 of 40 images are not in hfds/mine any more, first train/39"):
        data().verified(rows, "train")


@slow
def test_tables_of_datasets(tmp_path: Path) -> None:
    table(range(40)).save_to_disk(tmp_path / "one")  # no splits
    assert make_manifest(DataConfig(f"hfds/{tmp_path / 'one'}")).counts == {"train": 32, "val": 4, "test": 4}
    named = DataConfig(f"hfds/{saved_tables(tmp_path / 'named', image='img', label='kind')}")
    assert images_of(named, "val").labels.tolist() == [0, 1, 0, 1]  # the only fields of their kinds
    with pytest.raises(ValueError, match=r"has no field 'pic' \(it has img, kind\)"):
        images_of(replace(named, image_key="pic"), "val")
    (tmp_path / "parquet").mkdir()
    for part, numbers in (("train", range(20)), ("test", range(20, 24))):
        table(numbers).to_parquet(tmp_path / "parquet" / f"{part}-00000-of-00001.parquet")
    read = DataConfig(f"hfds/{tmp_path / 'parquet'}", root=str(tmp_path / "cache"))
    manifest = make_manifest(read)
    assert manifest.class_names == ("even", "odd") and manifest.counts == {"train": 16, "val": 4, "test": 4}
    assert fetch_data(read.name, tmp_path / "cache") == tmp_path / "parquet"
    assert fetch_data(named.name) == tmp_path / "named"
    (tmp_path / "named" / "train" / "state.json").write_text("{")
    with pytest.raises(FileNotFoundError, match="hfds/.*named cannot be opened"):
        images_of(named, "train")
    with pytest.raises(FileNotFoundError, match="hfds/no-such-set cannot be opened.*Give a folder"):
        hugging_face.hugging_face_parts(ReaderName("hfds", "no-such-set"))
    two = table(range(4)).add_column("second", [0, 1, 0, 1])
    with pytest.raises(ValueError, match="which field holds the label. Name it with --label-key: image, second"):
        hugging_face._fields(ReaderName("hfds", "x"), two.remove_columns("label").features, Keys())


@slow
def test_what_datasets_itself_misreads_is_refused(tmp_path: Path) -> None:
    """It looks for the words train and test in whole paths, and takes class names from the first table alone."""
    for part in ("train", "test"):
        fill(tmp_path / "words" / part, ("bus", "train"), 10)
    with pytest.raises(
        ValueError, match=r"test/train/00\.png is taken for two parts, or twice.*give the folder itself"
    ):
        images_of(DataConfig(f"hfds/{tmp_path / 'words'}", root=str(tmp_path / "cache")), "train")
    fill(tmp_path / "classes", ("bus", "train"), 10)
    with pytest.raises(ValueError, match=r"bus/\d+\.png is in no part.*give the folder itself"):
        images_of(DataConfig(f"hfds/{tmp_path / 'classes'}", root=str(tmp_path / "cache")), "train")
    import datasets

    for part, names in (("train", ["even", "odd"]), ("test", ["odd", "even"])):
        kinds = table(range(1)).features | {"label": datasets.ClassLabel(names=names)}
        table(range(20)).cast(datasets.Features(kinds)).to_parquet(tmp_path / "tables" / f"{part}.parquet")
    with pytest.raises(
        ValueError, match=r"(train|test)\.parquet number the classes of 'label' differently; write them"
    ):
        images_of(DataConfig(f"hfds/{tmp_path / 'tables'}", root=str(tmp_path / "cache")), "test")


@slow
def test_rows_without_a_class_are_named(tmp_path: Path) -> None:
    rows = table(range(40))
    rows.add_column("kind", [None if n == 7 else "ab"[n % 2] for n in range(40)]).save_to_disk(tmp_path / "bare")
    with pytest.raises(ValueError, match="has no class; add it, or remove the image"):
        images_of(DataConfig(f"hfds/{tmp_path / 'bare'}", label_key="kind"), "train")


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"needs datasets, which is not installed: pip.*dmpo-explore.hf"):
        load_images(f"hfds/{tmp_path}", "train")


def test_shards_need_no_package_and_any_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    shard(tmp_path / "train-{0..1}|9.tar", 0, 20)
    shard(tmp_path / "test-a::b.tar", 20, 4)
    assert [len(load_images(f"wds/{tmp_path}", split)) for split in ("train", "val", "test")] == [16, 4, 4]


def test_the_class_is_the_field_that_the_list_of_shards_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(20):
            add(archive, f"{number:04d}.png", coloured_file(number))
            add(archive, f"{number:04d}.json", json.dumps({"kind": number % 2, "other": 1}).encode())
    about = {"filenames": ["a.tar"], "shard_lengths": [20], "num_samples": 20, "alt_label": "kind"}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": {"train": about, "test": about}}))
    assert load_images(f"wds/{tmp_path}", "test").labels.tolist() == [0, 1] * 10
    with pytest.raises(ValueError, match=r"gives no class as a whole number \(KeyError\('sort'\)\)"):
        images_of(DataConfig(f"wds/{tmp_path}", label_key="sort"), "test")


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        (["val", "valid"], ValueError, "has two parts for the split val: val and valid"),
        (["test"], ValueError, r"has no part 'train' \(it has test\)"),
        (["train", "val", "test"], FileNotFoundError, r"has no 'calibration' \(it has test, train, val\)"),
    ],
)
def test_parts_that_cannot_be_splits(tmp_path: Path, parts: list[str], error: type[Exception], words: str) -> None:
    for part in parts:
        shard(tmp_path / f"{part}-0.tar", 0, 2)
    with pytest.raises(error, match=words):
        open_data(DataConfig(f"wds/{tmp_path}")).read("calibration")


def test_fetching_leaves_a_folder_as_it_is(tmp_path: Path) -> None:
    folder = two_shards(tmp_path / "shards")
    assert fetch_data(f"wds/{folder}") == folder


@pytest.mark.parametrize("name", ["torch/mnist", "tfds/mnist", "TFDS/mnist"])
def test_readers_that_left_say_what_to_do(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not read any more; save its images as folders by class, or as"):
        _ = open_data(DataConfig(name)).splits


def test_the_check_before_a_training_looks_at_them(tmp_path: Path) -> None:
    folder = split_shards(tmp_path / "shards")
    found = check_data(DataConfig(f"wds/{folder}"), quick=True, thumbnails=1)
    assert found.ready and not found.findings
    assert found.formats == {"encoded": 28} and set(found.thumbnails) == {"0", "1"}
    assert {split: int(counts.sum()) for split, counts in found.counts.items()} == {"train": 20, "val": 4, "test": 4}
    with tarfile.open(folder / "test-0000.tar", "a") as archive:
        add(archive, "twin.png", coloured_file(3))
        add(archive, "twin.cls", b"1")
        add(archive, "broken.png", coloured_file(9)[:45])
        add(archive, "broken.cls", b"1")
    found = check_data(DataConfig(f"wds/{folder}"), quick=True)
    assert [finding.check for finding in found.findings] == ["broken", "leakage"]
    assert found.findings[0].places == ("test/test-0000.tar/broken.png",)
    assert "--skip-broken" not in found.findings[0].text
    assert found.findings[1].places == ("train/train-0000.tar/0003.png = test/test-0000.tar/twin.png",)
    with pytest.raises(ValueError, match="test/test-0000.tar/broken.png cannot be read as an image"):
        found.require()


def test_leaving_out_broken_files_is_refused(tmp_path: Path) -> None:
    data = DataConfig(f"wds/{split_shards(tmp_path / 'shards')}", skip_broken=True)
    for checked in (check_data(data), check_data(open_data(data), quick=True)):
        with pytest.raises(ValueError, match=r"leaves out single files; wds/.* has none. Leave the option out"):
            checked.require()


def test_classes_are_the_numbers_that_there_are(tmp_path: Path) -> None:
    for part, count in (("train", 24), ("test", 6)):
        with tarfile.open(tmp_path / f"{part}-0.tar", "w") as archive:
            for number in range(count):
                add(archive, f"{number:04d}.png", coloured_file(number))
                add(archive, f"{number:04d}.cls", str(1 + number % 3).encode())
    check = check_data(DataConfig(f"wds/{tmp_path}"))
    assert check.ready and check.class_names == ("1", "2", "3")
    assert load_images(f"wds/{tmp_path}", "test").labels.tolist() == [0, 1, 2, 0, 1, 2]
