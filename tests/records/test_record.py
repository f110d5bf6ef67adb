"""Records: round trip, mapping, and every way a folder can be wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_meta, make_record

import dmpo_explore
from dmpo_explore.records.record import ExitRecord, RecordMeta
from dmpo_explore.records.validation import CONVENTION_OF_01, FORMAT_VERSION, SCORE_TYPES


@pytest.mark.parametrize("mapped", [False, True])
def test_round_trip_is_exact_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool) -> None:
    monkeypatch.setattr("dmpo_explore.records.validation.WHOLE", 0 if mapped else 2**20)
    record = make_record(8, 3, 5)
    record.save(tmp_path / "a" / "val")
    loaded = ExitRecord.load(str(tmp_path / "a" / "val"))
    for name in ("labels", "logits", *SCORE_TYPES):
        array = getattr(loaded, name)
        np.testing.assert_array_equal(array, getattr(record, name))
        assert array.dtype == getattr(record, name).dtype
        assert not array.flags.writeable
        assert isinstance(array.base, np.memmap) == mapped
    assert loaded.meta.to_dict() == record.meta.to_dict()
    np.testing.assert_array_equal(loaded.meta.indices, record.meta.indices)  # type: ignore[arg-type]


def test_sizes_and_derived_values() -> None:
    record = make_record(8, 3, 5)
    assert (record.n_images, record.n_exits) == (8, 3)
    np.testing.assert_allclose(record.flops_fraction, [0.3, 0.5, 0.7])
    assert record.correct.shape == (8, 3)
    assert record.correct[2, 1] == (record.prediction[2, 1] == record.labels[2])
    assert record.score("entropy") is record.entropy
    with pytest.raises(ValueError, match=r"unknown score 'energy'.*confidence, entropy, margin, prediction"):
        record.score("energy")


@pytest.mark.parametrize("rows", [np.array([5, 1]), slice(2, 6), np.arange(8) % 2 == 0])
def test_subset_takes_every_array_along(rows: Any) -> None:
    record = make_record(8, 3, 5)
    record = replace(record, more={"own": record.margin / 2})
    part = record.subset(rows)
    np.testing.assert_array_equal(part.meta.indices, np.arange(8)[rows])  # type: ignore[arg-type]
    np.testing.assert_array_equal(part.labels, record.labels[rows])
    np.testing.assert_array_equal(part.margin, record.margin[rows])
    np.testing.assert_array_equal(part.score("own"), record.margin[rows] / 2)
    assert part.logits is not None and record.logits is not None
    np.testing.assert_array_equal(part.logits, record.logits[rows])


def test_labels_scores_and_six_facts_are_a_whole_record(folder: Path) -> None:
    (folder / "logits.npy").unlink()
    (folder / "indices.npy").unlink()
    needed = ("format_version", "data", "split", "class_names", "exits", "flops", "reference_flops")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(
        json.dumps({key: meta[key] for key in needed} | {"colour": "unknown keys are kept out"})
    )
    record = ExitRecord.load(folder)
    assert record.logits is None
    assert record.meta.indices is None
    assert (record.meta.model, record.meta.image_size) == ("unknown", None)
    assert record.meta.flops_convention == "1 MAC = 2 FLOPs"
    part = record.subset(slice(0, 2))
    assert (part.logits, part.meta.indices, part.n_images) == (None, None, 2)


def test_the_digest_tells_records_apart_by_what_thresholds_depend_on(folder: Path) -> None:
    record = ExitRecord.load(folder)
    assert record.digest == ExitRecord.load(folder).digest and len(record.digest) == 16
    flops = replace(record, meta=replace(record.meta, flops=tuple(2 * f for f in record.meta.flops)))
    others = [flops, make_record(8, 3, 5, seed=1)]
    others += [
        replace(record, **{name: getattr(record, name)[::-1]}) for name in ("labels", "prediction", "confidence")
    ]
    assert len({one.digest for one in (record, *others)}) == 6
    assert record.subset(slice(1, None)).subset([2]).digest == record.digest  # its images belong to it
    assert replace(record, logits=None, meta=replace(record.meta, created="today")).digest == record.digest


def test_an_existing_record_is_kept_unless_forced(folder: Path) -> None:
    other = make_record(6, 3, 5, seed=1)
    with pytest.raises(FileExistsError, match="--force"):
        other.save(folder)
    assert ExitRecord.load(folder).n_images == 8
    other.save(folder, force=True)
    assert ExitRecord.load(folder).n_images == 6
    assert sorted(path.name for path in folder.parent.iterdir()) == ["val"]


def test_a_record_replaces_itself(folder: Path) -> None:
    ExitRecord.load(folder).subset(slice(0, 3)).save(folder, force=True)
    assert ExitRecord.load(folder).n_images == 3


def test_force_replaces_records_only(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_text("photo")
    (tmp_path / "file").write_text("text")
    for name in ("holiday", "file"):
        with pytest.raises(FileExistsError, match="not a record"):
            make_record(8, 3, 5).save(tmp_path / name, force=True)
    assert (tmp_path / "holiday" / "beach.jpg").read_text() == "photo"


def test_a_bad_record_is_not_written(tmp_path: Path) -> None:
    record = make_record(8, 3, 5)
    record.confidence[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"confidence\.npy: nan at image 3 .* from 0 to 1"):
        record.save(tmp_path / "val")
    with pytest.raises(ValueError, match=r"labels\.npy: shape \(0,\)"):
        make_record(8, 3, 5).subset(slice(0, 0)).save(tmp_path / "val")
    with pytest.raises(ValueError, match="flops"):
        make_record(8, 3, 5, flops=(3.0, 2.0, 1.0)).save(tmp_path / "val")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "file", ["labels.npy", "scores/prediction.npy", "scores/confidence.npy", "scores/margin.npy", "meta.json"]
)
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=Path(file).name):
        ExitRecord.load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no record folder .*nothing"):
        ExitRecord.load(tmp_path / "nothing")


class Malicious:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("file", ["labels.npy", "scores/entropy.npy", "logits.npy", "indices.npy"])
def test_a_pickle_in_disguise_is_never_opened(folder: Path, tmp_path: Path, file: str) -> None:
    trap = tmp_path / "trap"
    (folder / file).write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(ValueError, match=f"{Path(file).name} is not a readable .npy"):
        ExitRecord.load(folder)
    np.save(folder / file, np.array([Malicious(trap)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=f"{Path(file).name} is not a readable .npy"):
        ExitRecord.load(folder)
    assert not trap.exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zip(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(3))


def _text(path: Path) -> None:
    path.write_text("a,b\n1,2\n")


@pytest.mark.parametrize("break_it", [_truncate, _empty, _zip, _text])
def test_a_broken_array_is_named(folder: Path, break_it: Callable[[Path], None]) -> None:
    break_it(folder / "scores" / "margin.npy")
    with pytest.raises(ValueError, match=r"margin\.npy is not a readable \.npy array"):
        ExitRecord.load(folder)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("labels.npy", np.zeros((8, 1), np.int64), r"labels\.npy: shape \(8, 1\)"),
        ("labels.npy", np.zeros(7, np.int64), r"labels\.npy: shape \(7,\) must be \(8,\)"),
        ("labels.npy", np.zeros(8, np.int32), r"labels\.npy: type int32 must be int64"),
        ("labels.npy", np.full(8, 5), r"labels\.npy: 5 at image 0 .* 5 classes, 0 to 4"),
        ("labels.npy", np.full(8, -1), r"labels\.npy: -1 at image 0"),
        ("scores/prediction.npy", np.full((8, 3), 9, np.int32), r"prediction\.npy: 9 at image 0"),
        ("scores/prediction.npy", np.zeros((8, 3)), r"prediction\.npy: type float64 must be int32"),
        ("scores/confidence.npy", np.zeros((8, 4), np.float32), r"confidence\.npy: shape \(8, 4\) must be \(8, 3\)"),
        ("scores/confidence.npy", np.full((8, 3), 70, np.float32), r"confidence\.npy: 70\.0 .* from 0 to 1"),
        ("scores/margin.npy", np.full((8, 3), np.nan, np.float32), r"margin\.npy: nan"),
        ("scores/entropy.npy", np.full((8, 3), np.inf, np.float32), r"entropy\.npy: inf .* from 0 to 1\.609"),
        ("scores/entropy.npy", np.full((8, 3), -1, np.float32), r"entropy\.npy: -1\.0"),
        ("logits.npy", np.zeros((8, 3, 6), np.float16), r"logits\.npy: shape \(8, 3, 6\) must be \(8, 3, 5\)"),
        ("logits.npy", np.zeros((8, 3, 5), np.float32), r"logits\.npy: type float32 must be float16"),
        ("indices.npy", np.zeros(3, np.int64), r"indices\.npy: shape \(3,\) must be \(8,\)"),
    ],
)
def test_a_wrong_array_is_named(folder: Path, file: str, array: Any, message: str) -> None:
    np.save(folder / file, array)
    with pytest.raises(ValueError, match=message):
        ExitRecord.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version=2; this program reads version 1; install a newer dmpo-explore"),
        ({"format_version": None}, "format_version=None"),
        ({"flops_convention": CONVENTION_OF_01}, "version 0.1 recorded it, .*; record it again"),
        ({"exits": [3, 3, 9]}, r"exits=\[3, 3, 9\] must be a rising list of block numbers"),
        ({"exits": [0, 3, 9]}, "exits="),
        ({"exits": []}, "exits="),
        ({"exits": [3, 6, True]}, "exits="),
        ({"flops": [1, 3, 2]}, r"flops=\[1, 3, 2\] must be a rising list"),
        ({"flops": [1, 2]}, "2 flops for 3 exits"),
        ({"flops": [1, 2, "many"]}, "flops="),
        ({"flops": [1, 2, float("nan")]}, "flops="),
        ({"flops": [1, 2, float("inf")]}, "flops="),
        ({"reference_flops": 0}, "reference_flops=0 must be a positive number"),
        ({"class_names": "abc"}, "class_names='abc' must be a list"),
        ({"class_names": []}, "class_names="),
        ({"class_names": [1, 2]}, "class_names="),
        ({"data": 3}, "data=3 must be text"),
        ({"image_size": 7.5}, "image_size=7.5"),
    ],
)
def test_a_wrong_fact_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    meta = json.loads((folder / "meta.json").read_text()) | change
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=rf"meta\.json: .*{message}"):
        ExitRecord.load(folder)


@pytest.mark.parametrize("key", ["data", "split", "class_names", "exits", "flops", "reference_flops"])
def test_a_missing_fact_is_named(key: str) -> None:
    values = make_meta().to_dict()
    del values[key]
    with pytest.raises(ValueError, match=f"'{key}' is missing"):
        RecordMeta.from_dict(values)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\x01"])
def test_a_foreign_meta_file_is_named(folder: Path, text: str) -> None:
    (folder / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=r"meta\.json"):
        ExitRecord.load(folder)


RUNS = sorted(Path(dmpo_explore.__file__).parent.glob("runs/bundled/*/records/*"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_bundled_records_are_read_as_they_were_written(path: Path) -> None:
    """Folders of the first release: keys of meta.json and arrays stay readable whatever attributes are called."""
    record, on_disk = ExitRecord.load(path), json.loads((path / "meta.json").read_text(encoding="utf-8"))
    assert on_disk["format_version"] == FORMAT_VERSION == 1
    assert record.meta.to_dict() == on_disk
    assert record.meta.exit_blocks == tuple(on_disk["exits"]) and record.n_exits == len(on_disk["exits"])
    assert path.name in (record.meta.split, f"{record.meta.data}-{record.meta.split}")
    assert record.n_images == len(np.load(path / "labels.npy"))


def test_a_record_is_shown_on_one_line() -> None:
    record = make_record(1200, 3)
    np.testing.assert_allclose(record.accuracy, record.correct.mean(axis=0))
    first = f"{100 * record.correct[:, 0].mean():.1f}"
    assert repr(record).startswith(f"<ExitRecord of synthetic val: 1,200 images, 3 exits, accuracy {first} ")
    assert repr(record.subset(slice(0, 0))) == "<ExitRecord of synthetic val: 0 images, 3 exits>"


def test_there_are_bundled_records() -> None:
    assert len(RUNS) >= 10
