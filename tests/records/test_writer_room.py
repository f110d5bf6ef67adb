"""The room that a record takes: one writer at a time, full disks, memory that does not grow with the images."""

from __future__ import annotations

import errno
import tracemalloc
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import fill, made, make_meta

from dmpo_explore.records import writer as writer_module
from dmpo_explore.records.validation import SCORE_TYPES
from dmpo_explore.records.writer import RecordWriter
from dmpo_explore.utils.files import DiskFullError


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with made(tmp_path).begin():
        fill(made(tmp_path), [0])
        with pytest.raises(FileExistsError, match=r"another process is recording .*val"), made(tmp_path).begin():
            pass
        assert made(tmp_path).missing() == [1, 2, 3]
    with made(tmp_path).begin():
        assert made(tmp_path).missing() == [1, 2, 3]


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), made(tmp_path).begin():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_seen_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module.shutil, "disk_usage", lambda path: Namespace(free=1))
    with (
        pytest.raises(OSError, match=r"needs .* GB and 1e-09 GB are free.*val") as caught,
        made(tmp_path).begin(),
    ):
        pass
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_a_lock_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for place, name in ((writer_module.FileLock, "acquire"), (RecordWriter, "_create")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            with pytest.raises(OSError, match=r"No space left on device: '.*val'"), made(tmp_path).begin():
                pass
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_that_is_named_already_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: Any) -> None:
        raise DiskFullError(path)

    monkeypatch.setattr(writer_module, "write_json", full)
    with (
        pytest.raises(DiskFullError, match=r"the disk .* is full: .*state\.json was not written"),
        made(tmp_path).begin(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def peak(folder: Path, n_images: int) -> int:
    """The most bytes that Python and numpy held at once."""
    size, shape = 50, (50, 4, 250)
    meta = make_meta(n_images, *shape[1:], indices=None)
    writer = RecordWriter(folder / "val", meta, n_images, batch_size=size, made_from={})
    values = {"labels": np.zeros(size, np.int64), "logits": np.zeros(shape, np.float16)}
    values |= {name: np.zeros(shape[:2], kind) for name, kind in SCORE_TYPES.items()}
    tracemalloc.start()
    with writer.begin():
        for batch in writer.missing():
            writer.write(batch, values)
            assert writer.n_written
        writer.finish()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """2 MB of logits in the first case, 20 in the second."""
    few, many = peak(tmp_path / "few", 1_000), peak(tmp_path / "many", 10_000)
    assert many < few + 400_000
    assert (tmp_path / "many" / "val" / "logits.npy").stat().st_size > 20_000_000


def test_the_rows_of_a_million_images_take_little_memory(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "x", make_meta(8, 3, 5), 1_000_000, batch_size=250, made_from={})
    tracemalloc.start()
    rows = writer.rows_of(range(0, writer.n_batches, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows[[0, 249, 250, -1]].tolist() == [0, 249, 500, 999_749] and len(rows) == 500_000
    assert peak < 4 * rows.nbytes
