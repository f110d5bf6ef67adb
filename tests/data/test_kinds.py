"""Every kind of data keeps the same laws, whatever holds the images; so does one that a plug-in's author writes."""

from __future__ import annotations

import csv
import io
import pickle
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import fields, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from image_files import add, coloured_file

from dmpo_explore.config import DataConfig
from dmpo_explore.data import DATASETS, SPLITS, ImageSet, Pool, Source, check_data, data_stamp, images_of, open_data
from dmpo_explore.data.image_set import ImageFiles
from dmpo_explore.data.kinds import COLUMNS, OUTSIDE, Inputs, Kind, absolute, frame_of
from dmpo_explore.data.manifest import Differences, make_manifest, manifest_check, read_manifest, write_manifest
from dmpo_explore.joints import DATA_KINDS


class Row(NamedTuple):
    """An image that is written: file, class, split, and number, which is its colour; ``place`` is a part of its key."""

    file: str
    label: str
    split: str
    number: int
    place: str = ""

    @property
    def content(self) -> bytes:
        return coloured_file(self.number)

    @property
    def key(self) -> str:
        """A name where there are no folders of classes."""
        return f"{self.place}{self.file}"

    @property
    def group(self) -> str:
        return f"{self.split} {self.number // 2}"


Writer = Callable[[Path, Sequence[Row]], DataConfig]  # writes images into a folder, in place of what lay there
ROWS = [
    Row(f"{i:02d}.png", label, "val" if i in (3, 7) else "train" if i < 15 else "test", 20 * number + i, label)
    for number, label in enumerate(("cat", "dog"))
    for i in range(20)
]


def files(root: Path, rows: Sequence[Row], place: str = "{0.label}/{0.file}") -> DataConfig:
    shutil.rmtree(root / "own", ignore_errors=True)
    for row in rows:
        path = root / "own" / place.format(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row.content)
    return DataConfig(str(root / "own"))


def folders(root: Path, rows: Sequence[Row]) -> DataConfig:
    files(root, rows, "{0.split}/{0.label}/{0.file}")
    return DataConfig(**{f"{split}_dir": str(root / "own" / split) for split in ("train", "val", "test")})  # type: ignore[arg-type]


def table(root: Path, rows: Sequence[Row], suffix: str, *more: str) -> DataConfig:
    """A table beside its images; ``more``: its columns behind path and label."""
    files(root, rows)
    every = [(f"own/{row.label}/{row.file}", row.label, row.split, row.group) for row in rows]
    found = pd.DataFrame(every, columns=["path", "label", "split", "group"])[["path", "label", *more]]
    path = root / f"list.{suffix}"
    {"csv": partial(found.to_csv, index=False), "parquet": found.to_parquet,
     "jsonl": partial(found.to_json, orient="records", lines=True)}[suffix](path)  # fmt: skip
    return DataConfig(str(path))


def parted(rows: Sequence[Row], divided: bool) -> dict[str, list[Row]]:
    parts = ("train", "val", "test") if divided else ("train",)
    return {part: [row for row in rows if row.split == part or not divided] for part in parts}


def saved(root: Path, rows: Sequence[Row], *, divided: bool) -> DataConfig:
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    tables = {
        part: datasets.Dataset.from_dict(
            {"image": [{"bytes": row.content} for row in inside], "label": [row.label for row in inside]},
            features=kinds,
        )
        for part, inside in parted(rows, divided).items()
    }
    shutil.rmtree(root / "own", ignore_errors=True)
    (datasets.DatasetDict(tables) if divided else tables["train"]).save_to_disk(root / "own")
    return DataConfig(f"hfds/{root / 'own'}", root=str(root / "cache"))


def shards(root: Path, rows: Sequence[Row], *, divided: bool) -> DataConfig:
    pytest.importorskip("datasets")
    shutil.rmtree(root / "own", ignore_errors=True)
    (root / "own").mkdir(parents=True)
    for part, inside in parted(rows, divided).items():
        with tarfile.open(root / "own" / f"{part if divided else 'images'}-0.tar", "w") as archive:
            for row in inside:
                add(archive, row.key, row.content)
                add(archive, f"{row.key.removesuffix('.png')}.cls", str(int(row.label == "dog")).encode())
    return DataConfig(f"wds/{root / 'own'}", root=str(root / "cache"))


def published(root: Path, rows: Sequence[Row]) -> DataConfig:
    """A known data set of files, with its own train and test."""
    files(root, rows, "{0.split}/{0.label}/{0.file}")
    return DataConfig("made-up", root=str(root))


def read_published(split: str, root: Path | None) -> Pool:
    paths = sorted((root or Path()).glob(f"own/{split}/*/*"))
    return Pool(ImageFiles(paths), np.array([path.parent.name == "dog" for path in paths], np.int64), ("cat", "dog"))


class ZipKind(Kind):
    """A ZIP file of images with a table labels.csv of their classes inside, as a plug-in's author writes it."""

    files = False

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        return config.name.endswith(".zip")

    @property
    def folder(self) -> Path:
        return Path(self.config.name)

    def inputs(self) -> Inputs:
        labels = dict(csv.reader(io.StringIO(self.content("labels.csv").decode())))
        with zipfile.ZipFile(self.folder) as archive:
            names = [name for name in archive.namelist() if name != "labels.csv"]
        return Inputs(frame_of([(name, "", labels.get(name, ""), "" if name in labels else OUTSIDE) for name in names]))

    def content(self, name: str) -> bytes:
        with zipfile.ZipFile(self.folder) as archive:
            return archive.read(name)

    def sources(self) -> Sequence[Path]:
        return [self.folder]

    def located(self) -> DataConfig:
        return replace(super().located(), name=str(absolute(self.folder)))

    def moved(self, place: str | Path) -> DataConfig:
        return replace(self.config, name=str(absolute(place)))


def zipped(root: Path, rows: Sequence[Row]) -> DataConfig:
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "own.zip", "w") as archive:
        archive.writestr("labels.csv", "".join(f"{row.key},{row.label}\n" for row in rows))
        for row in rows:
            archive.writestr(row.key, row.content)
    return DataConfig(str(root / "own.zip"))


UNDIVIDED: dict[str, Writer] = {
    "folder": files,
    "CSV": partial(table, suffix="csv"),
    "Parquet": partial(table, suffix="parquet"),
    "JSON lines": partial(table, suffix="jsonl"),
    "saved by datasets": partial(saved, divided=False),
    "shards": partial(shards, divided=False),
    "zip of a plug-in": zipped,
}
GROUPED: dict[str, Writer] = {"CSV of groups": lambda root, rows: table(root, rows, "csv", "group")}
DIVIDED: dict[str, Writer] = {
    "folder of splits": partial(files, place="{0.split}/{0.label}/{0.file}"),
    "folder for each split": folders,
    "CSV of splits": lambda root, rows: table(root, rows, "csv", "split", "group"),
    "Parquet of splits": lambda root, rows: table(root, rows, "parquet", "split"),
    "splits saved by datasets": partial(saved, divided=True),
    "shards of splits": partial(shards, divided=True),
    "known files": published,
}
CHANGING = UNDIVIDED | GROUPED | DIVIDED
KINDS = CHANGING | {"known arrays": lambda root, rows: DataConfig("digits")}


@pytest.fixture(autouse=True)
def _more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_KINDS, "zip", ZipKind)
    monkeypatch.setitem(DATASETS, "made-up", Source("Made up", "CC0", read_published, lambda root: root or Path()))


def content_of(images: ImageSet) -> list[tuple[int, bytes]]:
    """Label and pixels of every image."""
    return [(int(label), image.tobytes()) for label, image in zip(images.labels, images, strict=True)]


def contents(config: DataConfig) -> dict[str, list[tuple[int, bytes]]]:
    data = open_data(config)
    return {split: content_of(data.images(split)) for split in data.splits}


# -- laws of all kinds: each is given how images are written as this kind, and a folder for them --


def inputs_are_a_table_and_every_image_opens(write: Writer, root: Path) -> None:
    config = write(root, ROWS)
    data, again = open_data(config), open_data(config)
    frame = data.inputs.frame
    assert {*COLUMNS} <= {*frame.columns} <= {*COLUMNS, "group"}
    assert {*frame["split"]} <= {*SPLITS, ""} and {*frame["why"]} == {""} and not data.inputs.errors
    assert not data.listed or frame["path"].is_unique
    pd.testing.assert_frame_equal(frame, again.inputs.frame)
    for split, inside in frame.groupby("split"):
        pixels = data.kind.pixels(str(split), inside["path"].tolist())
        for row in range(len(inside)):
            image = np.asarray(pixels[row])
            assert image.dtype == np.uint8 and image.shape[2:] in ((), (3,)) and image.size


def splits_are_disjoint_seeded_and_alike(write: Writer, root: Path) -> None:
    config = write(root, ROWS)
    data, found = open_data(config), contents(config)
    given = bool((data.inputs.frame["split"] != "").any())
    assert data.splits == ("train", "val", "test") and contents(config) == found  # too few for a calibration split
    used = data.frame[["origin", "position"]][data.frame["split"] != ""]
    assert sum(map(len, found.values())) == len(used.drop_duplicates()) == len(data.inputs.frame)
    other = contents(replace(config, seed=1))
    assert (other == found) == given and sorted(chain(*other.values())) == sorted(chain(*found.values()))
    whole = Counter(label for inside in found.values() for label, _ in inside)
    for inside in found.values():
        counts, share = Counter(label for label, _ in inside), len(inside) / whole.total()
        assert data.grouped or given or all(abs(counts[label] - share * n) <= 1 for label, n in whole.items())
    drawn = replace(config, train_size=10)
    few, more = contents(drawn), contents(replace(drawn, train_size=14))
    assert len(few["train"]) == 10 and {*few["train"]} <= {*found["train"]} and few == contents(drawn)
    assert few["train"] != contents(replace(drawn, seed=1))["train"]
    for split in ("val", "test"):
        assert few[split] == more[split] == found[split]
    four = open_data(replace(config, calibration=True))
    assert four.splits == SPLITS and len(four.images("calibration")) > 2


def positions_are_found_again_here_and_in_other_processes(write: Writer, root: Path) -> None:
    data = open_data(write(root, ROWS))
    for split in data.splits:
        images = data.images(split)
        rows, again = [len(images) - 1, 0], pickle.loads(pickle.dumps(images))
        wanted = content_of(images.subset(rows))
        assert content_of(images.at(images.indices[rows])) == content_of(again.at(images.indices[rows])) == wanted


def places_are_absolute_and_can_be_moved(write: Writer, root: Path) -> None:
    config = write(root / "a", ROWS)
    given = {field.name: value for field in fields(config) if isinstance(value := getattr(config, field.name), str)}
    relative: dict[str, Any] = {name: text.replace(f"{root}/", "") for name, text in given.items()}
    with chdir(root):
        found = open_data(replace(config, **relative)).kind.located()
    assert found == open_data(found).kind.located() == open_data(config).kind.located()
    assert data_stamp(config) == data_stamp(found)
    before, place = contents(config), str(open_data(config).folder).replace(f"{root}/a", f"{root}/b")
    if (root / "a").exists():
        (root / "a").rename(root / "b")
    moved = open_data(config).kind.moved(place if Path(place).exists() else root)
    assert contents(moved) == before and moved != config
    with pytest.raises((OSError, ValueError)):
        contents(open_data(config).kind.moved(root / "nowhere"))


def a_check_accounts_for_every_image(write: Writer, root: Path) -> None:
    seen = list[tuple[int, int]]()
    found = check_data(write(root, ROWS), lambda *at: seen.append(at), thumbnails=2)
    assert found.opened is not None and found.ready and not found.findings
    splits, n = found.opened.splits, len(found.opened.inputs.frame)
    assert {split: int(counts.sum()) for split, counts in found.counts.items()} == {
        split: len(images_of(found.data, split)) for split in splits
    }
    assert n == found.n_images == sum(line.found for line in found.ledger.values())
    assert all(line.found == sum(line.used.values()) and not line.left_out for line in found.ledger.values())
    assert {name: len(images) for name, images in found.thumbnails.items()} == dict.fromkeys(found.class_names, 2)
    assert seen[-1:] == [(n, n)] and (found.images["sha256"].str.len() == 64).all()


def a_manifest_gives_the_images_of_the_training_again(write: Writer, root: Path) -> None:
    config = write(root, ROWS)
    made = make_manifest(config, check=check_data(config))
    (root / "run").mkdir(parents=True)
    write_manifest(root / "run", made)
    read, now = read_manifest(root / "run"), contents(config)
    assert read is not None and read.listed == open_data(config).listed
    pd.testing.assert_frame_equal(read.frame, made.frame, check_dtype=False)
    assert all(getattr(made, field.name) == getattr(read, field.name) for field in fields(made) if field.repr)
    assert make_manifest(config).fingerprints == made.fingerprints  # which checks by itself
    assert manifest_check(read, config) == Differences()
    for split in read.counts:
        images = read.images(config, split)
        assert content_of(images) == now[split] and images.fingerprint == read.fingerprints[split] != ""
    with pytest.raises((ValueError, FileNotFoundError), match="calibration"):
        read.images(config, "calibration")


# -- laws of kinds whose images may change --


def a_stamp_knows_every_change(write: Writer, root: Path) -> None:
    before = data_stamp(write(root, ROWS))
    other = ROWS[5]._replace(number=99)
    assert (
        before
        and len({before, *(data_stamp(write(root, rows)) for rows in (ROWS[:-1], [*ROWS[:5], other, *ROWS[6:]]))}) == 3
    )


def what_has_changed_is_named_and_refused(write: Writer, root: Path) -> None:
    config = write(root, ROWS)
    made, last = make_manifest(config), ROWS[-1]
    split = next(split for split in made.counts if coloured_file_in(made.images(config, split), last.number))
    config = write(root, [*ROWS[:-1], last._replace(number=99)])
    found = manifest_check(made, config)
    assert len(found.changed) == 1 and not found.missing and not found.added and not found.fits
    with pytest.raises(ValueError, match="changed since the training"):
        content_of(made.images(config, split))
    config = write(root, ROWS[:-1])
    assert manifest_check(made, config).missing == found.changed
    with pytest.raises(FileNotFoundError, match=r"1 of \d+ .*images are not in"):
        made.images(config, split)
    config = write(root, [*ROWS, last._replace(file="99.png", number=99)])
    found = manifest_check(made, config)
    assert found.fits and len(found.added) == 1 and not found.renamed
    assert {split: made.images(config, split).fingerprint for split in made.counts} == made.fingerprints
    if open_data(config).kind.files:
        found = manifest_check(made, write(root, [*ROWS[:-1], last._replace(file="99.png")]))
        ((old, new),) = found.renamed
        assert Path(old).name == last.file and Path(new).name == "99.png" and not (found.missing or found.added)


def coloured_file_in(images: ImageSet, number: int) -> bool:
    """Whether the image of this number is one of them."""
    return any(tuple(image[0, 0]) == (number, 0, 77) for image in images)


LAWS = (
    inputs_are_a_table_and_every_image_opens,
    splits_are_disjoint_seeded_and_alike,
    positions_are_found_again_here_and_in_other_processes,
    places_are_absolute_and_can_be_moved,
    a_check_accounts_for_every_image,
    a_manifest_gives_the_images_of_the_training_again,
)
LAWS_OF_CHANGE = (a_stamp_knows_every_change, what_has_changed_is_named_and_refused)


@pytest.mark.parametrize("law", [pytest.param(law, id=law.__name__) for law in LAWS])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_laws(kind: str, law: Callable[[Writer, Path], None], tmp_path: Path) -> None:
    law(KINDS[kind], tmp_path)


@pytest.mark.parametrize("law", [pytest.param(law, id=law.__name__) for law in LAWS_OF_CHANGE])
@pytest.mark.parametrize("kind", CHANGING)
def test_a_change_is_seen(kind: str, law: Callable[[Writer, Path], None], tmp_path: Path) -> None:
    law(CHANGING[kind], tmp_path)


# -- what holds for some of them --


@pytest.mark.parametrize("kind", ["folder of splits", "CSV of splits", "splits saved by datasets", "shards of splits"])
def test_splits_that_are_given_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    config = DIVIDED[kind](tmp_path, ROWS)
    found = {split: sorted(pixels[0] for _, pixels in inside) for split, inside in contents(config).items()}
    assert found == {split: [row.number for row in ROWS if row.split == split] for split in ("train", "val", "test")}
    with pytest.raises(ValueError, match="has no calibration split: it was trained without one, and"):
        images_of(config, "calibration")


@pytest.mark.parametrize("kind", ["saved by datasets", "shards", "zip of a plug-in"])
def test_another_class_than_at_the_training_is_refused(kind: str, tmp_path: Path) -> None:
    """Images that are no files of their own have their class beside them."""
    made = make_manifest(UNDIVIDED[kind](tmp_path, ROWS))
    config = UNDIVIDED[kind](tmp_path, [*ROWS[:-1], ROWS[-1]._replace(label="cat")])
    found = manifest_check(made, config)
    assert [*found.changed, *found.missing] and not found.fits
    with pytest.raises((ValueError, FileNotFoundError), match=r"another class now, first|not in .* any more, first"):
        [made.images(config, split) for split in made.counts]


@pytest.mark.parametrize("kind", ["CSV of groups", "CSV of splits"])
def test_groups_stay_together(kind: str, tmp_path: Path) -> None:
    data = open_data(replace((GROUPED | DIVIDED)[kind](tmp_path, ROWS), calibration=True))
    assert data.frame.groupby("group")["split"].nunique().max() == 1 and ", whole groups" in data.rule
