"""What `datasets` reads, folders it saved and tar shards: parts, fields, and all that it misreads or cannot open."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from image_files import add, coloured_file, fill, saved_tables, shard, table

from dmpo_explore.config import DataConfig
from dmpo_explore.data import check_data, fetch_data, images_of, load_images, make_manifest, open_data

datasets = pytest.importorskip("datasets")
Make = Callable[[Path], object]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def totals(config: DataConfig) -> dict[str, int]:
    found = check_data(config)
    assert found.ready, found.findings
    return {split: int(counts.sum()) for split, counts in found.counts.items()}


def named(*names: str) -> Make:
    """Shards of these names, of 20 images each."""
    return lambda root: [shard(root / name, 20 * i, 20) for i, name in enumerate(names)]


def packed(samples: list[tuple[str, dict[str, bytes]]]) -> Make:
    """A shard of these samples: a key, and ending → content of its files."""

    def make(root: Path) -> None:
        root.mkdir(exist_ok=True)
        with tarfile.open(root / "a.tar", "w") as archive:
            for key, parts in samples:
                for ending, content in parts.items():
                    add(archive, f"{key}.{ending}", content)

    return make


def classes(*values: object, key: str = "cls") -> Make:
    """A shard of 20 images whose first ones have these classes, as text or in a field ``kind`` of a JSON file."""
    labels = [*values, *(i % 2 for i in range(20 - len(values)))]
    text = {"cls": str, "json": lambda value: json.dumps({"kind": value, "other": 1})}[key]
    return packed([(f"x/{i:04d}", {"png": coloured_file(i), key: text(v).encode()}) for i, v in enumerate(labels)])


def keyed(*numbers: int) -> Make:
    return packed([(f"{i:04d}", {"png": coloured_file(i), "cls": b"0"}) for i in numbers])


def cut(offset: Callable[[tarfile.TarInfo], int], flipped: bool = False) -> Make:
    """A shard that ends at an offset of its thirtieth file, or has another bit there."""

    def make(root: Path) -> None:
        path = shard(root / "a.tar", 0, 20)
        whole = path.read_bytes()
        with tarfile.open(path) as archive:
            at = offset(archive.getmembers()[30])
        path.write_bytes(whole[:at] + (bytes([whole[at] ^ 1]) + whole[at + 1 :] if flipped else b""))

    return make


def saved(rows: Any, **columns: list[Any]) -> Make:
    """A table with further columns, in place of those of the same name."""

    def make(root: Path) -> None:
        found = rows
        for name, values in columns.items():
            found = (found.remove_columns(name) if name in found.features else found).add_column(name, values)
        found.save_to_disk(root)

    return make


def of_parts(*parts: str) -> Make:
    return lambda root: datasets.DatasetDict(dict.fromkeys(parts, table(range(20)))).save_to_disk(root)


def odd_tables(root: Path) -> None:
    """Tables that number their classes differently."""
    for part, names in (("train", ["even", "odd"]), ("test", ["odd", "even"])):
        kinds = table(range(1)).features | {"label": datasets.ClassLabel(names=names)}
        table(range(20)).cast(datasets.Features(kinds)).to_parquet(root / f"{part}.parquet")


EMPTY: Make = lambda root: None  # noqa: E731
NO_IMAGE = [{"bytes": coloured_file(i), "path": None} if i != 7 else None for i in range(40)]


@pytest.mark.parametrize(
    ("name", "make", "options", "error", "words"),
    [
        ("wds", EMPTY, {}, FileNotFoundError, r"holds no tar shards \(\*.tar, uncompressed\)"),
        ("wds", Path.rmdir, {}, FileNotFoundError, "no folder .*own"),
        ("wds", named("training-data-val-0.tar"), {}, ValueError, "training-data-val-0.tar is taken for two"),
        ("wds", named("test-0.tar", "more-0.tar"), {}, ValueError, "more-0.tar is in no part.*; rename it"),
        ("wds", named("test-0.tar"), {}, ValueError, r"has no part 'train' \(it has test\)"),
        ("wds", lambda root: (root / "a.tar").write_bytes(b"no tar" * 200), {}, ValueError, "is not an uncompressed"),
        ("wds", cut(lambda file: file.offset_data + 5), {}, ValueError, "a.tar is not an uncompressed .* or damaged"),
        ("wds", cut(lambda file: file.offset), {}, ValueError, "cut short behind 0014.cls; copy it again"),
        ("wds", cut(lambda file: file.offset + 100), {}, ValueError, "cut short behind 0014.cls; copy it again"),
        ("wds", cut(lambda file: file.offset, True), {}, ValueError, "is damaged or cut short behind 0014.cls; copy"),
        ("wds", keyed(0, 0, 1), {}, FileNotFoundError, "Duplicate field 'png' for sample '0000' in .*a.tar"),
        ("wds", keyed(*range(20), 0), {}, ValueError, "train/a.tar/0000.png is there twice; rename one"),
        ("wds", classes(1, key="json"), {}, ValueError, "which field holds the label. Name it with --label-key: .*"),
        ("wds", classes(1, key="json"), {"label_key": "sort"}, ValueError, r"no field 'sort' \(it has png, json"),
        ("wds", classes(0, None, key="json"), {"label_key": "kind"}, ValueError, "0001.png of train has no class; add"),
        ("wds", classes(1), {"image_key": "jpg"}, ValueError, r"has no field 'jpg' \(it has png, cls"),
        ("hfds", EMPTY, {}, FileNotFoundError, "own cannot be opened: .*any data files. Give a folder that"),
        ("hfds", Path.rmdir, {}, FileNotFoundError, "own cannot be opened: no folder"),
        ("hfds", of_parts("train", "val", "valid"), {}, ValueError, "two parts for the split val: val and valid"),
        ("hfds", lambda root: [fill(root / part, ("bus", "train"), 10) for part in ("train", "test")], {}, ValueError,
         r"test/train/00\.png is taken for two parts, or twice.*give the folder itself: --data /"),
        ("hfds", lambda root: fill(root, ("bus", "train"), 10), {}, ValueError, r"bus/\d+\.png is in no part.*itself"),
        ("hfds", odd_tables, {}, ValueError, r"(train|test)\.parquet number the classes of 'label' differently; write"),
        ("hfds", saved(table(range(40)).remove_columns("label")), {}, ValueError, "which field holds the label"),
        ("hfds", saved(table(range(40))), {"image_key": "pic"}, ValueError, r"no field 'pic' \(it has image, label\)"),
        ("hfds", saved(table(range(40)), label=[None, *range(39)]), {}, ValueError, "train/0 of train has no class; "),
        ("hfds", saved(table(range(40)), label=[[1, 2]] * 40), {}, ValueError, r"several classes each, e.g. \[1, 2\]"),
        ("hfds", saved(table(range(40)).remove_columns("image"), image=NO_IMAGE), {"image_key": "image"}, ValueError,
         "train/7 has no image; add it, or remove the row"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(
    tmp_path: Path, name: str, make: Make, options: dict[str, str], error: type[Exception], words: str
) -> None:
    (tmp_path / "own").mkdir()
    make(tmp_path / "own")
    found = check_data(DataConfig(f"{name}/{tmp_path / 'own'}", **options))  # type: ignore[arg-type]
    with pytest.raises(error, match=words):
        found.require()


@pytest.mark.parametrize(
    ("name", "make", "options", "expected"),
    [
        ("wds", named("train-0.tar", "val-0.tar"), {}, (16, 4, 20)),  # without a test part val is test
        ("wds", named("train/0.tar", "test/0.tar"), {}, (16, 4, 20)),
        ("wds", lambda root: (named("train-{0..1}|9.tar")(root), (root / "README.md").touch()), {}, (12, 4, 4)),
        ("wds", classes(1, key="json"), {"image_key": "png", "label_key": "kind"}, (12, 4, 4)),
        ("hfds", saved(table(range(40), image="img", label="kind")), {}, (32, 4, 4)),  # the only fields of their kinds
        ("hfds", lambda root: fill(root / "train", count=20), {}, (32, 4, 4)),
    ],
)
def test_parts_and_fields_are_found(
    tmp_path: Path, name: str, make: Make, options: dict[str, str], expected: tuple[int, ...]
) -> None:
    make(tmp_path / "own")
    config = DataConfig(f"{name}/{tmp_path / 'own'}", **options)  # type: ignore[arg-type]
    assert totals(config) == dict(zip(("train", "val", "test"), expected, strict=True))
    assert fetch_data(config.name) == tmp_path / "own"


def test_tables_of_parquet_and_a_readme_as_the_hub_has_them(tmp_path: Path) -> None:
    for part, numbers in (("train", range(20)), ("test", range(20, 24))):
        table(numbers).to_parquet(tmp_path / "own" / "data" / f"{part}-00000-of-00001.parquet")
    (tmp_path / "own" / "README.md").write_text("---\ndata_files: /etc/*\n---\n")  # what it says is not asked
    made = make_manifest(DataConfig(f"hfds/{tmp_path / 'own'}"))
    assert made.class_names == ("even", "odd") and made.counts == {"train": 16, "val": 4, "test": 4}
    assert made.rule.startswith("train is its train, test is its test; val is 10 % of train")


def test_a_folder_saved_by_datasets_that_is_damaged_is_named(tmp_path: Path) -> None:
    saved_tables(tmp_path / "own")
    (tmp_path / "own" / "train" / "state.json").write_text("{")
    with pytest.raises(FileNotFoundError, match="hfds/.*own cannot be opened"):
        images_of(DataConfig(f"hfds/{tmp_path / 'own'}"), "train")


@pytest.mark.parametrize("name", ["no-such-set", "a b/c"])
def test_a_data_set_of_the_hub_is_fetched_by_a_command_alone(name: str) -> None:
    words = f"hfds/{name} cannot be opened.*Give a folder.*`dmpo-explore fetch --data hfds/{name}` alone"
    with pytest.raises(FileNotFoundError, match=words):
        load_images(f"hfds/{name}", "train")


def test_a_row_reads_files_of_its_data_set_alone(tmp_path: Path) -> None:
    """Paths in a table are data: none leads out of its folder and the cache."""
    for place in ("own", "far"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").write_bytes(coloured_file(1))
    (tmp_path / "own" / "link.png").symlink_to(tmp_path / "far" / "a.png")
    paths = ["own/a.png", "own/saved/b.png", "own/../far/a.png", "own/link.png"]
    columns = {"image": [{"bytes": None, "path": str(tmp_path / path)} for path in paths], "label": [0, 1, 0, 1]}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "own" / "saved")
    (tmp_path / "own" / "saved" / "b.png").write_bytes(b"own")
    kind = open_data(DataConfig(f"hfds/{tmp_path / 'own' / 'saved'}", image_key="image")).kind
    assert kind.content("train/1") == b"own"
    for row in (0, 2, 3):
        with pytest.raises(ValueError, match=rf"train/{row} names a file outside its data set: .*; save it again"):
            kind.content(f"train/{row}")


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"needs datasets, which is not installed: pip.*dmpo-explore.hf"):
        load_images(f"hfds/{tmp_path}", "train")


def test_an_image_that_is_missing_or_damaged_can_be_left_out(tmp_path: Path) -> None:
    """The check says where it lies, as it does for files."""
    samples = [
        (f"{i}", {"png": coloured_file(i)[: 45 if i == 3 else None], "cls": b"01"[i % 2 :][:1]}) for i in range(40)
    ]
    packed(samples)(tmp_path / "own")
    found = check_data(DataConfig(f"wds/{tmp_path / 'own'}"))
    assert [(finding.check, finding.places) for finding in found.findings] == [("broken", ("train/a.tar/3.png",))]
    assert found.formats == {"PNG": 40} and "--skip-broken" in found.findings[0].text
    assert sum(totals(replace(found.data, skip_broken=True)).values()) == 39
