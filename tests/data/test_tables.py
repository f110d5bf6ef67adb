"""Tables of one's own images as a source, and maps of class names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from image_files import fill, paint

from dmpo_explore.config import DataConfig
from dmpo_explore.data import images_of, load_images, make_manifest, open_data

HEAD = "path,label,split,group"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 images of 10 groups: path, label, split, group."""
    fill(tmp_path / "images")
    rows = [
        f"images/{name}/{i:02d}.png,{name},{('Train', 'Valid', 'TEST')[min(i // 8, 2)]},g{i % 10}"
        for name in ("cat", "dog")
        for i in range(20)
    ]
    (tmp_path / "list.csv").write_text("\n".join([HEAD, *rows]))
    return tmp_path / "list.csv"


def columns(table: Path, *names: str) -> pd.DataFrame:
    found = pd.read_csv(table)
    return found[list(names)]


def test_images_lie_beside_a_table_that_is_a_link(table: Path) -> None:
    columns(table, "path", "label", "split").to_csv(table, index=False)
    (table.parent / "annex").mkdir()
    stored = table.rename(table.parent / "annex" / "KEY.csv")
    table.symlink_to(stored)
    config = open_data(DataConfig(str(table))).kind.located()
    assert Path(config.name).name == "list.csv" and len(load_images(config.name, "train")) == 16
    moved = open_data(DataConfig(str(table))).kind.moved(table.parent)
    assert moved.name == config.name


def test_its_splits_are_named_in_the_rule(table: Path) -> None:
    columns(table, "path", "label", "split").to_csv(table, index=False)
    assert open_data(DataConfig(str(table))).division.rule == "given in the table (train, val, test)"


def test_val_is_cut_from_train_by_groups(table: Path) -> None:
    rows = pd.read_csv(table)
    rows["split"] = np.where(rows["group"].isin(["g0", "g1"]), "test", "train")
    rows.to_csv(table, index=False)
    train, val = (images_of(DataConfig(str(table)), split) for split in ("train", "val"))
    groups = [
        {Path(images.pixels.paths[i]).stem[-1] for i in images.indices}  # type: ignore[attr-defined]
        for images in (train, val)
    ]
    assert all(groups) and not groups[0] & groups[1] and len(train) + len(val) == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "has no column 'path'"),
        (b"path,class\na.png,1", r"has no column 'label' \(it has path, class\); expected path, label"),
        (b"path,label", "lists no images"),
        (b"path,label\na.png,cat\na.png,dog", "lists a.png twice"),
        (b"path,label\na.png,cat\n./a.png,dog", r"lists ./a.png twice, also as a.png"),
        (b"path,label\na.png,", "image 1 has no label"),
        (b"path,label\na.png", "line 2: 1 entries for 2 columns"),
        (b"path,label,split\na.png,cat,dev", "'dev' is not a split; use train, val, calibration, test"),
        (b"path,label,split\na.png,cat,train\nb.png,dog,test", "no image of class 'dog' is in train"),
        (b"path,label,split,group\na.png,cat,train,g0\nb.png,cat,val,g0", "group g0 is in train and in val; a group"),
        (b"\xff\xfe\x00", "is not a CSV file in UTF-8"),
    ],
)
def test_a_bad_table_is_one_clear_error(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "list.csv").write_bytes(text)
    with pytest.raises(ValueError, match=message) as error:
        load_images(str(tmp_path / "list.csv"), "train")
    assert "list.csv" in str(error.value)


def test_missing_images_and_a_foreign_table_are_named(table: Path) -> None:
    columns(table, "path", "label", "split").to_csv(table, index=False)
    (table.parent / "images" / "cat" / "03.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of its images are missing, first .*cat/03\.png"):
        load_images(str(table), "train")
    (table.parent / "list.parquet").write_bytes(b"no table")
    with pytest.raises((ValueError, ImportError), match=r"list\.parquet"):
        load_images(str(table.parent / "list.parquet"), "train")


def test_a_list_in_another_column_of_a_parquet_table_is_not_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    names = [paint(tmp_path / f"{i}.png", i).name for i in range(20)]
    pd.DataFrame({"path": names, "label": list("ab") * 10, "box": [[1, 2]] * 20}).to_parquet(tmp_path / "list.parquet")
    images = load_images(str(tmp_path / "list.parquet"), "train")
    assert images.class_names == ("a", "b") and len(images) == 12


def test_numbers_as_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    rows = [f"{paint(tmp_path / f'{i}.png', i).name},{(2, 10)[i % 2]},train" for i in range(8)]
    (tmp_path / "list.csv").write_text("path,label,split\n" + "\n".join(rows))
    assert load_images(str(tmp_path / "list.csv"), "train").class_names == ("2", "10")


def test_classes_get_readable_names(tmp_path: Path) -> None:
    folder = fill(tmp_path / "own", ("n01", "n02"))
    (tmp_path / "names.json").write_text(json.dumps({"n01": "tench", "n99": "never seen"}))
    (tmp_path / "names.csv").write_text('folder,name\nn01,tench\nn02,"shark, white"\n')
    names = [
        images_of(DataConfig(str(folder), class_names=str(tmp_path / file)), "test").class_names
        for file in ("names.json", "names.csv")
    ]
    assert names == [("tench", "n02"), ("tench", "shark, white")]


@pytest.mark.parametrize(
    ("file", "text", "error", "words"),
    [
        ("names.json", '{"c": "d"}', ValueError, "names none of the classes cat, dog"),
        ("names.json", '{"cat": "x", "dog": "x"}', ValueError, "gives two classes the name 'x'"),
        ("names.json", '{"cat": 1}', ValueError, "must hold a JSON object of texts"),
        ("names.csv", "a,b,c\n", ValueError, "must have two columns"),
        ("names.csv", "n01,cat\nn01,dog\n", ValueError, "gives class folder 'n01' two names"),
        ("nothing.csv", None, FileNotFoundError, "no file"),
    ],
)
def test_names_that_are_none_are_refused(
    tmp_path: Path, file: str, text: str | None, error: type[Exception], words: str
) -> None:
    if text:
        (tmp_path / file).write_text(text)
    data = DataConfig(str(fill(tmp_path / "own")), class_names=str(tmp_path / file))
    with pytest.raises(error, match=words):
        images_of(data, "train")


def test_broken_images_are_skipped_whatever_the_way_to_them(table: Path) -> None:
    (table.parent / "tables").mkdir()
    rows = [f"../images/{name}/{i:02d}.png,{name}" for name in ("cat", "dog") for i in range(20)]
    (table.parent / "tables" / "list.csv").write_text("\n".join(["path,label", *rows]))
    broken = table.parent / "images" / "cat" / "07.png"
    broken.write_bytes(broken.read_bytes()[:40])
    manifest = make_manifest(DataConfig(str(table.parent / "tables" / "list.csv"), skip_broken=True))
    assert sum(manifest.counts.values()) == 39 and (manifest.frame["why"] != "").sum() == 1
    assert not manifest.rows("train", "val", "test")["path"].str.endswith("cat/07.png").any()
