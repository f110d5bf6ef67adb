"""Disks: what is flushed before a rename, and one error for a full one, whatever the library says."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from dmpo_explore.utils import files as disk
from dmpo_explore.utils.files import (
    DiskFullError,
    atomic_file,
    atomic_folder,
    full_disk_named,
    is_full_disk,
    write_text,
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    seen: list[str] = []
    rename = os.replace

    def fsync(handle: int) -> None:
        seen.append(f"flush {os.path.basename(os.readlink(f'/proc/self/fd/{handle}'))}")

    def replace(old: Any, new: Any) -> None:
        seen.append(f"rename to {os.path.basename(new)}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return seen


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads names of open files from /proc")
def test_bytes_are_flushed_before_a_rename_and_the_name_after_it(tmp_path: Path, calls: list[str]) -> None:
    write_text(tmp_path / "a", "a")
    part, *rest = calls
    assert part.startswith("flush .a.") and rest == ["rename to a", f"flush {tmp_path.name}"]
    calls.clear()
    with atomic_folder(tmp_path / "record") as folder:
        (folder / "scores").mkdir()
        (folder / "scores" / "b.npy").touch()
        (folder / "meta.json").touch()
    *before, rename, after = calls
    assert before[:2] == ["flush b.npy", "flush scores"] and before[2] == "flush meta.json"
    assert before[3].startswith("flush .record.") and len(before) == 4
    assert (rename, after) == ("rename to record", f"flush {tmp_path.name}")


def test_a_folder_that_cannot_be_flushed_is_passed_over_but_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> Callable[[int], None]:
        def fsync(handle: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", fails(errno.EINVAL))
    disk.flush_names(tmp_path)
    for number in (errno.EIO, errno.ENOSPC):
        monkeypatch.setattr(os, "fsync", fails(number))
        with pytest.raises(OSError, match=os.strerror(number)):
            disk.flush_names(tmp_path)


def test_the_error_of_an_inner_file_names_the_outer_folder(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DiskFullError) as seen, atomic_folder(tmp_path / "record") as f, atomic_file(f / "meta.json"):
        raise full
    assert str(tmp_path / "record") + " was not written" in str(seen.value) and seen.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_causes_are_looked_through_and_other_errors_stay(tmp_path: Path) -> None:
    wrapped = RuntimeError("writer failed")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert is_full_disk(wrapped) and is_full_disk(Exception('Os { code: 28, kind: StorageFull, message: "" }'))
    assert is_full_disk(Exception("(sqlite3.OperationalError) database or disk is full"))
    for error in (RuntimeError("shapes differ"), OSError("1 requested and 0 written"), PermissionError(13, "no")):
        with pytest.raises(type(error)) as seen, full_disk_named(tmp_path / "a"):
            raise error
        assert seen.value is error  # there is room


# -- a disk that is really full --


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB of which 64 KiB are free."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        (place / "filler").write_bytes(bytes((2 << 20) - (64 << 10)))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def write_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(1 << 20), allow_pickle=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: path.write_bytes(bytes(1 << 20)),
    "numpy": write_array,
    "pandas": lambda path: pd.DataFrame(np.full((5000, 9), np.pi)).to_csv(path),
    "safetensors": lambda path: save_file({"a": np.zeros(1 << 20)}, path),
    "torch": lambda path: torch.save({"a": torch.zeros(1 << 20)}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_library_says_it_in_the_same_words(small_disk: Path, writer: str) -> None:
    write_text(small_disk / "kept", "old")
    for name in ("new", "kept"):
        with pytest.raises(DiskFullError) as seen, atomic_file(small_disk / name) as temporary:
            WRITERS[writer](temporary)
        assert str(seen.value) == (
            f"the disk {small_disk} is full: {small_disk / name} was not written; make room and repeat the command"
        )
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "kept"]
    assert (small_disk / "kept").read_text() == "old"
