"""Files and folders that are written whole or not at all: renames, full disks, kills, leftovers; JSON; the cache."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from failing import raising
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dmpo_explore.training.checkpoint import held_run
from dmpo_explore.utils import files
from dmpo_explore.utils.files import (
    DiskFullError,
    atomic_file,
    atomic_folder,
    cache_dir,
    clear_leftovers,
    flush_names,
    full_disk_cause,
    full_disk_named,
    read_json,
    read_whole,
    settle,
    sha256,
    write_json,
    write_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_atomic_file_appears_whole_and_readable(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert stat.S_IMODE(target.stat().st_mode) & 0o444 == 0o444
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="has no such files")
@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("results", IsADirectoryError, "results is a folder; name a file"),
        ("pipe", OSError, "is a pipe or a device"),
        ("link", OSError, "is a pipe or a device"),
        (os.devnull, OSError, "is a pipe or a device"),
    ],
)
def test_what_is_no_file_is_not_replaced_and_named_before_the_work(
    tmp_path: Path, place: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "results").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with pytest.raises(error, match=words), atomic_file(tmp_path / place):
        raise AssertionError("work that would be lost")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 3


def test_a_link_to_a_file_that_is_not_there_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to(tmp_path / "file")
    write_text(tmp_path / "there", "text")
    assert (tmp_path / "there").read_text() == "text"


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_who_may_read_is_what_the_umask_says(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "a.txt") as temporary:
            temporary.unlink()
            temporary.touch(0o600)  # as a library does that writes by itself
        with atomic_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b")] == [file, folder]


def test_atomic_file_keeps_the_old_one_on_any_interruption(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_folder_replaces_all_or_nothing(tmp_path: Path) -> None:
    make(tmp_path / "record", "old")
    with atomic_folder(tmp_path / "record") as temporary:
        (temporary / "two").write_text("2")
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(tmp_path / "record") as temporary:
        (temporary / "three").write_text("3")
        raise RuntimeError("stop")
    assert [path.name for path in (tmp_path / "record").iterdir()] == ["two"]
    assert names(tmp_path) == ["record"]


@settings(max_examples=30)  # each writes to the disk
@given(value=json_values)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_what_is_not_json_is_refused_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n  oops}', r"a\.json is not valid JSON \(line 2, column 3\)"),
        (b"\xff\xfe", r"a\.json is not UTF-8"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', r"a\.json is not read: 'b' is there twice"),
    ],
)
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.json"):
        read_json(tmp_path / "b.json")


@given(content=st.binary(max_size=200))
def test_sha256_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_cache_dir_obeys_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", "~/there")
    assert cache_dir() == Path.home() / "there"
    for empty in ("", "  "):
        monkeypatch.setenv("DMPO_EXPLORE_CACHE", empty)
        assert cache_dir().name == "dmpo-explore"
        assert cache_dir().is_absolute()


# -- disks: what is flushed before a rename, and one error for a full one --


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


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_flushed_is_passed_over_but_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", raising(OSError(number, os.strerror(number))))
    passed_over = number == errno.EINVAL
    with nullcontext() if passed_over else pytest.raises(OSError, match=os.strerror(number)):
        flush_names(tmp_path)


def test_the_error_of_an_inner_file_names_the_outer_folder(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DiskFullError) as seen, atomic_folder(tmp_path / "record") as f, atomic_file(f / "meta.json"):
        raise full
    assert str(tmp_path / "record") + " was not written" in str(seen.value) and seen.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_causes_are_looked_through_and_other_errors_stay(tmp_path: Path) -> None:
    wrapped = RuntimeError("writer failed")
    wrapped.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert full_disk_cause(wrapped) and full_disk_cause(Exception('Os { code: 28, kind: StorageFull, message: "" }'))
    assert full_disk_cause(Exception("(sqlite3.OperationalError) database or disk is full"))
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
            f"the disk is full: {small_disk / name} was not written; make room and repeat the command"
        )
    assert names(small_disk) == ["filler", "kept"]
    assert (small_disk / "kept").read_text() == "old"


# -- folders that are replaced: no reader sees none or a mixture, no kill loses both --


def make(path: Path, text: str) -> None:
    with atomic_folder(path) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path, *names: str) -> None:
    """What killed writers leave: their unfinished files and locks."""
    for name in names:
        (folder / name).write_text("half")
        (folder / name).with_suffix(".lock").touch()


def texts(path: Path) -> set[str]:
    return {(path / name).read_text() for name in ("a", "b")}


def read_while_replaced(path: Path, seconds: float) -> tuple[int, int]:
    """Number of reads, and how many versions were written meanwhile."""
    make(path, "0")
    end, written = time.monotonic() + seconds, 0

    def rewrite() -> None:
        nonlocal written
        while time.monotonic() < end:
            written += 1
            make(path, str(written))

    writer = threading.Thread(target=rewrite)
    writer.start()
    reads = 0
    while time.monotonic() < end:
        assert len(read_whole(path, texts)) == 1
        reads += 1
    writer.join()
    return reads, written


@pytest.mark.slow
def test_no_read_fails_or_mixes_versions_while_a_folder_is_replaced(tmp_path: Path) -> None:
    reads, written = read_while_replaced(tmp_path / "record", 0.5)
    assert reads > 20 and written > 5
    assert names(tmp_path) == ["record"]


def test_a_writer_that_ends_while_leftovers_are_cleared_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".record.abcd1234.part").mkdir()
    seen = os.scandir(tmp_path)
    entries = list(seen)
    (tmp_path / ".record.abcd1234.part").rmdir()
    monkeypatch.setattr(os, "scandir", lambda folder: iter(entries))
    clear_leftovers(tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be removed there")
def test_a_lock_file_goes_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    release = FileLock.release

    def noted(self: FileLock, force: bool = False) -> None:
        there.append(Path(self.lock_file).exists())  # later it may be another's
        release(self, force)

    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(FileLock, "release", noted)
    with held_run("mine"):
        assert (tmp_path / ".mine.training.lock").exists()
    (tmp_path / ".record.abcd1234.part").mkdir()
    (tmp_path / ".record.abcd1234.lock").touch()  # of a killed writer
    clear_leftovers(tmp_path)
    assert there and not any(there) and not list(tmp_path.iterdir())


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    make(tmp_path / "link", "new")
    assert texts(tmp_path / "link") == {"new"} and texts(tmp_path / "elsewhere") == {"old"}
    assert names(tmp_path) == ["elsewhere", "link"]


def test_a_kill_at_any_rename_leaves_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the disk before and after every rename is copied: what a kill there leaves."""
    place, states = tmp_path / "place", []
    make(place / "record", "old")

    def watched(rename: Callable[[Path, Path], object]) -> Callable[[Path, Path], object]:
        def wrapper(a: Path, b: Path) -> object:
            copy()
            answer = rename(a, b)
            copy()
            return answer

        return wrapper

    def copy() -> None:
        states.append(tmp_path / f"state {len(states)}")
        shutil.copytree(place, states[-1])

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", watched(os.replace))
        make(place / "record", "new")
    assert len(states) >= 2 and texts(place / "record") == {"new"}
    for state in states:
        assert read_whole(state / "record", texts) in ({"old"}, {"new"})
        clear_leftovers(state)
        assert names(state) == ["record"]
        assert texts(state / "record") in ({"old"}, {"new"})


def test_an_interruption_between_two_steps_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "record", "old")
    rename, seen = os.replace, []

    def replace(a: Path, b: Path) -> None:
        seen.append(b)
        if len(seen) == 2:
            raise KeyboardInterrupt
        rename(a, b)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", replace)
        make(tmp_path / "record", "new")
    assert texts(tmp_path / "record") == {"old"} and names(tmp_path) == ["record"]


# -- leftovers --


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "record") as folder:
        (folder / "a").write_text("half")
        clear_leftovers(tmp_path)
        assert (folder / "a").read_text() == "half"


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_what_another_process_writes_stays_until_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dmpo_explore.utils.files import atomic_folder\n"
        f"with atomic_folder(Path({str(tmp_path)!r}) / 'record') as folder:\n"
        "    (folder / 'a').write_text('half')\n    print('begun', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"begun\n"
        clear_leftovers(tmp_path)
        assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".lock", ".part"]
        process.kill()
        process.wait()
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_old_version_of_a_killed_program_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".record.abcd_123.old"
    old.mkdir()
    settle(tmp_path / "other")
    assert old.exists()
    settle(tmp_path / "record")
    assert names(tmp_path) == ["record"]


def test_what_cannot_be_cleared_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_leftovers(tmp_path / "nothing")
    (tmp_path / ".a.abcd1234.part").touch()
    (tmp_path / ".a.abcd1234.lock").touch()

    monkeypatch.setattr(files, "remove", raising(PermissionError("busy")))
    clear_leftovers(tmp_path)
    assert (tmp_path / ".a.abcd1234.part").exists()


def test_an_error_of_a_reader_is_raised_and_endless_replacing_ends(tmp_path: Path) -> None:
    make(tmp_path / "record", "old")
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "record", lambda path: (path / "c").read_text())
    with pytest.raises(OSError, match="repeatedly replaced"):
        read_whole(tmp_path / "record", lambda path: write_text(path / "c", "x"))


@pytest.mark.parametrize(
    ("others", "stay"),
    [
        ([".a.0123abcd.part", ".a.b.0123abcd.part"], [".a.b.0123abcd.lock", ".a.b.0123abcd.part"]),
        ([".a.0123abcd.part", "..a.0123abcd.part.4567cdef.part"], []),  # of a writer within a killed writer
    ],
)
def test_a_writer_removes_what_killed_writers_of_the_same_name_left(
    tmp_path: Path, others: list[str], stay: list[str]
) -> None:
    left(tmp_path, *others)
    with atomic_folder(tmp_path / "a"), atomic_folder(tmp_path / "a"):  # of which neither removes the other's
        assert len(list(tmp_path.glob(".a.????????.part"))) == 2
    assert names(tmp_path) == [*stay, "a"]
