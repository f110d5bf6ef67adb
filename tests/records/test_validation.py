"""Record folders: arrays are read whole or mapped, and all that is wrong is named at once, each problem by its file."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from run_folders import Change, Trap, cut, remove, set_values, write
from synthetic import make_record, record_from_logits

from dmpo_explore.fitting.temperature import fit_temperatures
from dmpo_explore.records import ExitRecord, RecordMeta, validation
from dmpo_explore.records.validation import (
    ARRAYS,
    CONVENTION_OF_01,
    FILES,
    META_FIELDS,
    OPTIONAL,
    meta_problems,
    open_array,
    problems,
    release,
)

# -- array files --


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every array is large enough to be mapped."""
    monkeypatch.setattr(validation, "WHOLE", 0)


def n_files() -> int:
    return psutil.Process().num_fds()


@pytest.mark.parametrize("whole", [0, 2**20])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_and_types_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int, order: Any) -> None:
    monkeypatch.setattr(validation, "WHOLE", whole)
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4).copy(order)
    np.save(tmp_path / "a.npy", values)
    found = open_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype and not found.flags.writeable
    assert isinstance(found.base, np.memmap) == (whole == 0)
    assert type(found) is np.ndarray


def test_small_arrays_keep_no_file_open_and_survive_one_that_is_cut(folder: Path) -> None:
    before = n_files()
    kept = [ExitRecord.load(folder) for _ in range(300)]
    assert n_files() == before
    for file in folder.rglob("*.npy"):
        file.write_bytes(b"")
    np.testing.assert_array_equal(kept[0].confidence, make_record(8, 3, 5).confidence)


@pytest.mark.usefixtures("mapped")
def test_however_many_records_are_kept_few_files_are_open_and_they_outlive_their_folder(folder: Path) -> None:
    before, whole = n_files(), ExitRecord.load(folder)
    assert n_files() == before + 7  # labels, indices, logits and four scores
    kept = [ExitRecord.load(folder) for _ in range(300)]
    assert n_files() - before == validation.MANY
    make_record(6, 3, 5, seed=1).save(folder, force=True)
    for record in (whole, kept[-1]):
        np.testing.assert_array_equal(record.logits, make_record(8, 3, 5).logits)  # type: ignore[arg-type]
    assert ExitRecord.load(folder).n_images == 6
    del kept, whole, record
    assert n_files() == before


def test_a_folder_that_is_replaced_while_it_is_read_is_never_mixed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, opened = make_record(8, 3, 5, seed=1), list[Path]()

    def opening(path: Path) -> Any:
        if len(opened) == 3:  # in the middle of a record
            other.save(folder, force=True)
        opened.append(path)
        return open_array(path)

    monkeypatch.setattr(validation, "open_array", opening)
    record = ExitRecord.load(folder)
    for name, array in other.arrays.items():
        np.testing.assert_array_equal(record.arrays[name], array)


PROGRAM = """
import os, resource, sys
from dmpo_explore.records import validation
from dmpo_explore.records.record import ExitRecord
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
kept = [ExitRecord.load(sys.argv[1]) for _ in range(100)]
validation.WHOLE = 0
try:
    kept += [ExitRecord.load(sys.argv[1]) for _ in range(100)]
except OSError as error:
    print(error)
kept.clear()
print(ExitRecord.load(sys.argv[1]).n_images)
"""


def test_too_many_open_files_are_called_that(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)
    error, images = done.stdout.splitlines()
    assert error.endswith("cannot be opened: too many files are open; raise the limit with `ulimit -n`")
    assert ".npy" in error and images == "8"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the shared memory of a process from Linux")
def test_a_mapped_array_that_was_read_through_can_be_released(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2**21, 8), np.float32))  # 64 MiB
    found = open_array(tmp_path / "a.npy")
    total, read = float(found.sum()), psutil.Process().memory_info().shared
    release(found)
    assert read - psutil.Process().memory_info().shared > 2**25
    assert float(found.sum()) == total == 2**24  # it is read again
    release(np.ones(6)[::2])  # nothing to release


# -- one problem: the check lists it, and who loads the record gets it as an error --


def holds(file: str, values: Any) -> Change:
    """The file is this array."""
    return lambda folder: np.save(folder / file, values, allow_pickle=True)


def zipped(folder: Path) -> None:
    with (folder / "scores" / "margin.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(3))


MARGIN, CONFIDENCE, ENTROPY = "scores/margin.npy", "scores/confidence.npy", "scores/entropy.npy"
TRAPS = ("labels.npy", ENTROPY, "logits.npy", "indices.npy")
F4, F2 = np.float32, np.float16
BAD: list[tuple[Change, str]] = [
    *((remove(file), rf"{Path(file).name} is missing: .*; write it as {ARRAYS[file].kind} of shape") for file in FILES),
    *((write(file, pickle.dumps(Trap())), f"{Path(file).name} is not a readable .npy") for file in TRAPS),
    *((holds(file, np.array([Trap()])), f"{Path(file).name} is not a readable .npy") for file in TRAPS),
    *(
        (change, r"margin\.npy is not a readable \.npy array")
        for change in (cut(MARGIN, -4), write(MARGIN, b""), zipped)
    ),
    (write(MARGIN, b"a,b\n1,2\n"), r"margin\.npy is not a readable \.npy array"),
    (holds("labels.npy", np.zeros((8, 1), np.int64)), r"labels\.npy: shape \(8, 1\)"),
    (holds("labels.npy", np.zeros(7, np.int64)), r"labels\.npy: shape \(7,\) must be \(8,\) \(images\)$"),
    (holds("labels.npy", np.zeros(0, np.int64)), r"labels\.npy: shape \(0,\) must be \(8,\) .*at least one"),
    (holds("labels.npy", np.zeros(8, np.int32)), r"labels\.npy: type int32 must be int64"),
    (holds("labels.npy", np.full(8, 5)), r"labels\.npy: 5 at image 0 .* a class from 0 to 4 \(8 such values\)"),
    (holds("labels.npy", np.full(8, -1)), r"labels\.npy: -1 at image 0"),
    (holds("scores/prediction.npy", np.full((8, 3), 9, np.int32)), r"prediction\.npy: 9 at image 0"),
    (holds("scores/prediction.npy", np.zeros((8, 3))), r"prediction\.npy: type float64 must be int32"),
    (holds(CONFIDENCE, np.zeros((8, 4), F4)), r"confidence\.npy: shape \(8, 4\) must be \(8, 3\)"),
    (holds(CONFIDENCE, np.full((8, 3), 70, F4)), r"confidence\.npy: 70\.0 .* from 0 to 1"),
    (holds(CONFIDENCE, np.full((8, 3), -9e-5, F4)), r"confidence\.npy: .* from 0 to 1"),  # below where all exit
    (holds(MARGIN, np.full((8, 3), -9e-5, F4)), r"margin\.npy: .* from 0 to 1"),
    (holds(MARGIN, np.full((8, 3), np.nan, F4)), r"margin\.npy: nan"),
    (holds(MARGIN, np.zeros((7, 3), F4)), r"margin\.npy: shape \(7, 3\) must be \(8, 3\)"),
    (holds(ENTROPY, np.full((8, 3), np.inf, F4)), r"entropy\.npy: inf .* from 0 to 1\.609"),
    (holds(ENTROPY, np.full((8, 3), -1, F4)), r"entropy\.npy: -1\.0"),
    (holds("logits.npy", np.zeros((8, 3, 6), F2)), r"shape \(8, 3, 6\) must be \(8, 3, 5\)"),
    (holds("logits.npy", np.zeros((8, 3, 5), F4)), r"logits\.npy: type float32 must be float16"),
    (holds("indices.npy", np.zeros(3, np.int64)), r"indices\.npy: shape \(3,\) must be \(8,\)"),
    (holds("indices.npy", np.full(8, -1)), r"indices\.npy: -1 .* a position in the data, from 0"),
    (holds("features.npy", np.zeros((8, 2, 9), F2)), r"\(8, 2, 9\) must be \(8, 3, any\) \(images, exits, features\)"),
    (holds("embedding.npy", np.zeros((8, 3, 3), F2)), r"shape \(8, 3, 3\) must be \(8, 3, 2\) \(images, exits, 2\)"),
    (holds("embedding.npy", np.full((8, 3, 2), np.inf, F2)), r"embedding\.npy: inf at image 0 .* a finite coordinate"),
    (holds("scores/mine.npy", np.full((8, 3), np.nan, F4)), r"mine\.npy: nan at image 0 .* a mine from -inf to inf"),
    *((write("meta.json", text), r"meta\.json") for text in (b"", b"{", b"[1, 2]", b"\x00\x01", b"[" * 10**5)),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_problem_is_the_only_one_and_is_what_load_raises(
    folder: Path, change: Change, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    change(folder)
    found = problems(folder)
    assert len(found) == 1 and re.search(words, found[0]), found
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        ExitRecord.load(folder)
    assert found[0] == str(raised.value) and isinstance(raised.value, FileNotFoundError) == ("missing" in found[0])
    assert not Path("trap").exists()


def test_small_slips_of_rounding_are_none(folder: Path) -> None:
    (folder / "logits.npy").unlink()
    for name, value in {"confidence": 1 + 9e-5, "entropy": -9e-5}.items():
        np.save(folder / f"scores/{name}.npy", np.full((8, 3), value, F4))
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format_version=2; this program reads version 1; install a newer dmpo-explore"),
        ({"format_version": None}, "format_version=None"),
        ({"flops_convention": CONVENTION_OF_01}, "version 0.1 recorded it, .*; record it again"),
        ({"exits": [3, 3, 9]}, r"exits=\[3, 3, 9\] must be a rising list of block numbers"),
        *(({"exits": exits}, "exits=") for exits in ([0, 3, 9], [], [3, 6, True])),
        ({"flops": [1, 3, 2]}, r"flops=\[1, 3, 2\] must be a rising list"),
        ({"flops": [1, 2]}, "2 flops for 3 exits"),
        *(({"flops": [1, 2, bad]}, "flops=") for bad in ("many", float("nan"), float("inf"), True)),
        ({"reference_flops": 0}, "reference_flops=0 must be a positive number"),
        ({"class_names": "abc"}, "class_names='abc' must be a list"),
        *(({"class_names": names}, "class_names=") for names in ([], [1, 2], ["a" * 1001])),
        ({"data": 3}, "data=3 must be text"),
        ({"image_size": 7.5}, "image_size=7.5"),
        *(({name: ...}, f"'{name}' is missing") for name, kind in META_FIELDS.items() if kind.needed),
    ],
)
def test_a_wrong_fact_is_listed_and_is_what_load_raises(folder: Path, changes: dict[str, Any], words: str) -> None:
    set_values("meta.json", **changes)(folder)
    with pytest.raises(ValueError, match=rf"meta\.json: .*{words}") as raised:
        ExitRecord.load(folder)
    assert problems(folder)[0] == str(raised.value)
    with pytest.raises(ValueError, match=words):
        RecordMeta.from_dict(json.loads((folder / "meta.json").read_text()))


# -- all of it --


def test_a_whole_record_has_no_problem(folder: Path) -> None:
    assert problems(folder) == ExitRecord.problems(str(folder)) == []
    for file in OPTIONAL:
        (folder / file).unlink(missing_ok=True)
    assert problems(folder) == []


def test_an_empty_folder_lacks_every_needed_file_and_none_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path)
    assert len(found) == 1 + len(FILES)
    assert all(any(file in problem for problem in found) for file in ("meta.json", *FILES))
    (tmp_path / "file").touch()
    for name, words in {"nothing": "no record folder ", "file": " is a file, not a record folder"}.items():
        (text,) = problems(tmp_path / name)
        assert words in text and str(tmp_path / name) in text
        with pytest.raises(FileNotFoundError, match=words):
            ExitRecord.load(tmp_path / name)


def test_every_problem_is_named_at_once(folder: Path) -> None:
    set_values("meta.json", flops=[3, 2, 1], data=..., format_version=9)(folder)
    (folder / "labels.npy").unlink()
    np.save(folder / CONFIDENCE, np.full((8, 3), 70, np.float32))
    np.save(folder / MARGIN, np.zeros((8, 3)))
    np.save(folder / "logits.npy", np.zeros((8, 3, 6), np.float32))
    (folder / ENTROPY).write_bytes(pickle.dumps([1, 2]))
    expected = [
        "meta.json: format_version=9; this program reads version 1",
        "meta.json: 'data' is missing; it must be text",
        "meta.json: flops=[3, 2, 1] must be a rising list of positive FLOPs",
        "labels.npy is missing",
        "entropy.npy is not a readable .npy array",
        "confidence.npy: 70.0 at image 0 (counted from 0) must be a confidence from 0 to 1 (24 such values)",
        "margin.npy: type float64 must be float32",
        "logits.npy: shape (8, 3, 6) must be (8, 3, 5) (images, exits, classes)",
        "logits.npy: type float32 must be float16",
    ]
    found = problems(folder)
    assert len(found) == len(expected)
    assert all(text in problem for text, problem in zip(expected, found, strict=True))


def test_arrays_that_agree_with_each_other_have_the_exits_of_meta(folder: Path) -> None:
    set_values("meta.json", exits=[3, 6], flops=[1, 2])(folder)
    found = problems(folder)
    assert len(found) == 5 and all("(8, 3" in text and "must be (8, 2" in text for text in found)


def test_sizes_come_from_the_arrays_when_meta_is_broken(folder: Path) -> None:
    (folder / "meta.json").write_text("{")
    assert len(problems(folder)) == 1  # nothing else is wrong, as far as can be seen
    np.save(folder / MARGIN, np.zeros((8, 4), np.float32))
    json_problem, shape = problems(folder)
    assert "not valid JSON" in json_problem and "margin.npy: shape (8, 4) must be (8, 3)" in shape


def test_facts_of_the_wrong_kind_do_not_stop_the_report() -> None:
    values = {name: object() for name in META_FIELDS} | {"format_version": 1}
    assert len([*meta_problems(values, "meta.json")]) == len(META_FIELDS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["logits", "features"])
def test_large_arrays_must_be_finite_where_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, bad: float
) -> None:
    monkeypatch.setattr(validation, "PIECE", 3 * 15)  # three images at a time
    values = np.load(folder / "logits.npy")
    values[5, 2, 4] = values[7, 0, 0] = bad
    np.save(folder / f"{name}.npy", values)
    (problem,) = problems(folder)
    words = rf"{bad} at image 5 \(counted from 0\) must be a finite {name[:5]}.* \(2 such values\)"
    assert re.search(rf"{name}\.npy: {words}", problem)
    record = ExitRecord.load(folder)  # which does not read them
    with pytest.raises(ValueError, match=words):
        record.save(folder.parent / "again")
    assert not (folder.parent / "again").exists()
    if name == "logits":
        with pytest.raises(ValueError, match=f"this record of synthetic val: {words}"):
            fit_temperatures(record)


# -- scores against the logits --


@pytest.fixture(params=[1.0, 30.0])
def scored(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A record of 40 images, 3 exits and 7 classes, with small or with large logits."""
    rng = np.random.default_rng(0)
    record_from_logits(request.param * rng.normal(size=(40, 3, 7)), rng.integers(0, 7, 40)).save(tmp_path / "val")
    return tmp_path / "val"


def another_class(prediction: Any) -> Any:
    prediction[17, 1] = (prediction[17, 1] + 1) % 7
    return prediction


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("logits", np.negative, r"prediction\.npy: another class has .* image 0 \(counted from 0\), exit 1 \(120 such"),
        ("scores/prediction", another_class, "another class has the largest logit at image 17 .*, exit 2"),
        (
            "scores/confidence",
            lambda found: np.maximum(F4(1 / 7), found**2),
            r"confidence\.npy.* not the largest softmax probability of the logits",
        ),
        ("scores/entropy", lambda found: F4(np.log(7)) - found, r"entropy\.npy: the entropy is not that of the logits"),
    ],
)
def test_scores_that_are_not_those_of_the_logits_are_found(scored: Path, file: str, change: Any, words: str) -> None:
    assert problems(scored) == []
    np.save(scored / f"{file}.npy", change(np.load(scored / f"{file}.npy")))
    found = [text for text in problems(scored) if "margin.npy" not in text]
    assert len(found) == 1 and re.search(words, found[0])
    assert ExitRecord.load(scored).n_images == 40  # it is opened nevertheless


def test_a_margin_above_the_confidence_is_found_without_logits_too(scored: Path) -> None:
    np.save(scored / MARGIN, np.full((40, 3), 0.99, np.float32))
    confidence = np.load(scored / CONFIDENCE)
    (scored / "logits.npy").unlink()
    (text,) = problems(scored)
    assert "margin.npy: the margin is above the confidence" in text
    assert f"({int((confidence < 0.989).sum())} such values)" in text
