"""Array files: small ones are read whole, large ones mapped, and files are closed again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from synthetic import make_record

from dmpo_explore.records import validation as arrays
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.validation import open_array, release


def n_files() -> int:
    return psutil.Process().num_fds()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_record(8, 3, 5).save(tmp_path / "test")
    return tmp_path / "test"


@pytest.mark.parametrize("whole", [0, 2**20])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_and_types_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int, order: Any) -> None:
    monkeypatch.setattr(arrays, "WHOLE", whole)
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4).copy(order)
    np.save(tmp_path / "a.npy", values)
    found = open_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype and not found.flags.writeable
    assert isinstance(found.base, np.memmap) == (whole == 0)
    assert type(found) is np.ndarray


def test_records_of_small_arrays_keep_no_file_open(folder: Path) -> None:
    before = n_files()
    kept = [ExitRecord.load(folder) for _ in range(300)]
    assert n_files() == before and len(kept) == 300


def test_mapped_arrays_close_their_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "WHOLE", 0)
    before = n_files()
    kept = ExitRecord.load(folder)
    assert n_files() == before + 7  # labels, indices, logits and four scores
    del kept
    assert n_files() == before


def test_however_many_records_are_kept_few_files_are_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "WHOLE", 0)
    before, whole = n_files(), ExitRecord.load(folder)
    kept = [ExitRecord.load(folder) for _ in range(300)]
    assert n_files() - before == arrays.MANY
    np.testing.assert_array_equal(kept[0].margin, kept[-1].margin)
    np.testing.assert_array_equal(whole.logits, kept[-1].logits)  # type: ignore[arg-type]
    del kept, whole
    assert n_files() == before


def test_a_mapped_record_outlives_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "WHOLE", 0)
    old, other = make_record(8, 3, 5), make_record(6, 3, 5, seed=1)
    record = ExitRecord.load(folder)
    other.save(folder, force=True)
    np.testing.assert_array_equal(record.confidence, old.confidence)
    np.testing.assert_array_equal(record.logits, old.logits)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ExitRecord.load(folder).confidence, other.confidence)


def test_a_small_array_survives_a_file_that_is_cut(folder: Path) -> None:
    record = ExitRecord.load(folder)
    for file in folder.rglob("*.npy"):
        file.write_bytes(b"")
    np.testing.assert_array_equal(record.confidence, make_record(8, 3, 5).confidence)


def test_a_folder_that_is_replaced_while_it_is_read_is_never_mixed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, opened = make_record(8, 3, 5, seed=1), list[Path]()

    def opening(path: Path) -> Any:
        if len(opened) == 3:  # in the middle of a record
            other.save(folder, force=True)
        opened.append(path)
        return open_array(path)

    monkeypatch.setattr("dmpo_explore.records.record.open_array", opening)
    record = ExitRecord.load(folder)
    for name in ("labels", "confidence", "entropy", "margin", "prediction", "logits"):
        np.testing.assert_array_equal(getattr(record, name), getattr(other, name))


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
    release(np.ones(3))  # nothing to release
    release(np.ones(6)[::2])
