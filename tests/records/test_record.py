"""Records: round trip, parts and cascades of them, where they are written, and the bundled ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.records import FORMAT_VERSION, SCORE_TYPES, ExitRecord, cascade


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


def test_sizes_derived_values_and_one_line() -> None:
    record = make_record(1200, 3, 5)
    assert (record.n_images, record.n_exits) == (1200, 3)
    np.testing.assert_allclose(record.flops_fraction, [0.3, 0.5, 0.7])
    np.testing.assert_array_equal(record.correct, record.prediction == record.labels[:, None])
    np.testing.assert_allclose(record.accuracy, record.correct.mean(axis=0))
    assert record.score("entropy") is record.entropy
    with pytest.raises(ValueError, match=r"unknown score 'energy'.*confidence, entropy, margin, prediction"):
        record.score("energy")
    first = f"{100 * record.correct[:, 0].mean():.1f}"
    assert repr(record).startswith(f"<ExitRecord of synthetic val: 1,200 images, 3 exits, accuracy {first} ")
    assert repr(record.subset(slice(0, 0))) == "<ExitRecord of synthetic val: 0 images, 3 exits>"


@pytest.mark.parametrize("rows", [np.array([5, 1]), slice(2, 6), np.arange(8) % 2 == 0])
def test_subset_takes_every_array_along(rows: Any) -> None:
    record = make_record(8, 3, 5)
    record = replace(record, more={"own": record.margin / 2})
    part = record.subset(rows)
    np.testing.assert_array_equal(part.meta.indices, np.arange(8)[rows])  # type: ignore[arg-type]
    np.testing.assert_array_equal(part.score("own"), record.margin[rows] / 2)
    for name in ("labels", "margin", "logits"):
        np.testing.assert_array_equal(getattr(part, name), getattr(record, name)[rows])


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
    ExitRecord.load(folder).subset(slice(0, 3)).save(folder, force=True)  # it replaces itself
    assert ExitRecord.load(folder).n_images == 3
    assert [path.name for path in folder.parent.iterdir()] == ["val"]


def test_force_replaces_records_only(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_text("photo")
    (tmp_path / "file").write_text("text")
    for name in ("holiday", "file"):
        with pytest.raises(FileExistsError, match="not a record"):
            make_record(8, 3, 5).save(tmp_path / name, force=True)
    assert (tmp_path / "holiday" / "beach.jpg").read_text() == "photo"


def with_nan() -> ExitRecord:
    record = make_record(8, 3, 5)
    record.confidence[3, 1] = np.nan
    return record


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (with_nan, r"confidence\.npy: nan at image 3 .* from 0 to 1"),
        (lambda: make_record(8, 3, 5).subset(slice(0, 0)), r"labels\.npy: shape \(0,\)"),
        (lambda: make_record(8, 3, 5, flops=(3.0, 2.0, 1.0)), "flops"),
    ],
)
def test_a_bad_record_is_not_written(tmp_path: Path, make: Callable[[], ExitRecord], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make().save(tmp_path / "val")
    assert list(tmp_path.iterdir()) == []


RUNS = sorted(Path(dx.__file__).parent.glob("runs/bundled/*/records/*"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_bundled_records_are_read_as_they_were_written(path: Path) -> None:
    """Folders of the first release: keys of meta.json and arrays stay readable whatever attributes are called."""
    record, on_disk = ExitRecord.load(path), json.loads((path / "meta.json").read_text(encoding="utf-8"))
    assert len(RUNS) >= 10
    assert on_disk["format_version"] == FORMAT_VERSION == 1
    assert record.meta.to_dict() == on_disk
    assert record.meta.exit_blocks == tuple(on_disk["exits"]) and record.n_exits == len(on_disk["exits"])
    assert path.name in (record.meta.split, f"{record.meta.data}-{record.meta.split}")
    assert record.n_images == len(np.load(path / "labels.npy"))


# -- cascades: what they say is what running one model after another would give --


def recorded(split: str) -> list[ExitRecord]:
    return [dx.load_run(name).record(split) for name in ("demo-cnn", "demo-single")]


def test_a_small_model_then_a_large_one(tmp_path: Path) -> None:
    val, (small, large) = cascade(*recorded("val")), recorded("test")
    both, policy = cascade(small, large), dx.fit_policy(val, accuracy_drop=0.005)
    found, exits, rows = dx.apply(policy, both), policy.exits(both), np.arange(small.n_images)
    asked, early = exits >= small.n_exits, np.minimum(exits, small.n_exits - 1)  # whether of the large one
    expected = np.where(asked, large.prediction[:, 0], small.prediction[rows, early])
    np.testing.assert_array_equal(found.prediction, expected)
    spent = np.where(asked, small.meta.flops[-1] + large.meta.flops[0], np.take(small.meta.flops, early))
    np.testing.assert_allclose(found.flops_fraction, spent / large.meta.reference_flops)
    assert 0.05 < asked.mean() < 0.9 and found.correct.mean() > small.correct[:, -1].mean()
    assert dx.fit_policy(val, risk="too_early", epsilon=0.05).fitted["certificate"]["certified"]
    both.save(tmp_path / "both")
    again = ExitRecord.load(tmp_path / "both")
    assert again.digest == both.digest and again.meta.model == both.meta.model


def test_what_they_have_in_common_is_kept() -> None:
    one, other = make_record(30, 2, 4, seed=1), make_record(30, 3, 4, seed=2)
    other = replace(other, labels=one.labels)
    both = cascade(one, other, one)
    assert both.n_exits == 7 and both.logits is not None and both.logits.shape == (30, 7, 4)
    assert both.meta.exit_blocks[:2] == one.meta.exit_blocks and all(np.diff(both.meta.exit_blocks) > 0)
    assert cascade(one, replace(other, logits=None)).logits is None
    warm = cascade(one.tempered((2.0, 3.0)), other)
    assert warm.temperatures == (2.0, 3.0, 1.0, 1.0, 1.0)
    np.testing.assert_array_equal(warm.confidence[:, :2], one.tempered((2.0, 3.0)).confidence)


def of(record: ExitRecord, **facts: Any) -> ExitRecord:
    return replace(record, meta=replace(record.meta, **facts))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: [r.subset(slice(0, 29))], "other images"),
        (lambda r: [replace(r, labels=(r.labels + 1) % 4)], "other images"),
        (lambda r: [of(r, images_sha256="a" * 64)], "other images"),
        (lambda r: [of(r, indices=np.arange(30)[::-1])], "other images"),
        (lambda r: [of(r, class_names=tuple("wxyz"))], "other classes"),
        (lambda r: [], "at least 2 models, not 1"),
    ],
)
def test_other_images_or_classes_are_refused(change: Callable[[ExitRecord], list[ExitRecord]], match: str) -> None:
    record = of(make_record(30, 2, 4), images_sha256="b" * 64, indices=np.arange(30))
    with pytest.raises(ValueError, match=match):
        cascade(record, *change(record))
