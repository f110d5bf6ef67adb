"""Folders that are replaced: no reader sees none or a mixture, no kill loses both, nothing stays behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from dmpo_explore.training.checkpoint import held_run
from dmpo_explore.utils import files
from dmpo_explore.utils import files as replacing
from dmpo_explore.utils.files import atomic_folder, clear_leftovers, exchange, read_whole, settle


def make(path: Path, text: str) -> None:
    with atomic_folder(path) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(text)


def texts(path: Path) -> set[str]:
    return {(path / name).read_text() for name in ("a", "b")}


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot exchange folders."""
    monkeypatch.setattr(replacing, "exchange", lambda a, b: False)


def can_exchange(folder: Path) -> bool:
    for name in ("one", "two"):
        (folder / name).mkdir()
    try:
        return exchange(folder / "one", folder / "two")
    finally:
        for name in ("one", "two"):
            (folder / name).rmdir()


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


@pytest.mark.parametrize("how", ["one step", "two_steps"])
def test_no_read_fails_or_mixes_versions_while_a_folder_is_replaced(
    tmp_path: Path, request: pytest.FixtureRequest, how: str
) -> None:
    if how == "two_steps":
        request.getfixturevalue(how)
    reads, written = read_while_replaced(tmp_path / "record", 0.5)
    assert reads > 20 and written > 5
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


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


def test_a_folder_is_never_absent_where_the_system_can_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange folders")
    make(tmp_path / "record", "old")
    monkeypatch.setattr(os, "replace", lambda *names: pytest.fail("the folder was moved away"))
    make(tmp_path / "record", "new")
    assert texts(tmp_path / "record") == {"new"}


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    make(tmp_path / "link", "new")
    assert texts(tmp_path / "link") == {"new"} and texts(tmp_path / "elsewhere") == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "link"]


@pytest.mark.parametrize("system", ["one step", "two steps"])
def test_a_kill_at_any_rename_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """The state of the disk before and after every rename is copied: what a kill there leaves."""
    if system == "two steps":
        monkeypatch.setattr(replacing, "exchange", lambda a, b: False)
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
        patch.setattr(replacing, "exchange", watched(replacing.exchange))
        make(place / "record", "new")
    assert len(states) >= 2 and texts(place / "record") == {"new"}
    for state in states:
        assert read_whole(state / "record", texts) in ({"old"}, {"new"})
        clear_leftovers(state)
        assert [path.name for path in state.iterdir()] == ["record"]
        assert texts(state / "record") in ({"old"}, {"new"})


@pytest.mark.usefixtures("two_steps")
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
    assert texts(tmp_path / "record") == {"old"} and [path.name for path in tmp_path.iterdir()] == ["record"]


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
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


def test_what_cannot_be_cleared_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_leftovers(tmp_path / "nothing")
    (tmp_path / ".a.abcd1234.part").touch()
    (tmp_path / ".a.abcd1234.lock").touch()

    def remove(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(replacing, "remove", remove)
    clear_leftovers(tmp_path)
    assert (tmp_path / ".a.abcd1234.part").exists()


def test_an_error_of_a_reader_is_raised_and_endless_replacing_ends(tmp_path: Path) -> None:
    make(tmp_path / "record", "old")
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "record", lambda path: (path / "c").read_text())
    with pytest.raises(OSError, match="repeatedly replaced"):
        read_whole(tmp_path / "record", lambda path: files.write_text(path / "c", "x"))


def test_a_writer_removes_what_killed_writers_of_the_same_name_left(tmp_path: Path) -> None:
    for name in (".a.0123abcd.part", ".a.b.0123abcd.part"):
        (tmp_path / name).write_text("half")
        (tmp_path / name).with_suffix(".lock").touch()
    with atomic_folder(tmp_path / "a"), atomic_folder(tmp_path / "a"):  # of which neither removes the other's
        assert len(list(tmp_path.glob(".a.????????.part"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.b.0123abcd.lock", ".a.b.0123abcd.part", "a"]


def test_what_a_writer_within_a_killed_writer_left_is_removed_too(tmp_path: Path) -> None:
    for name in (".a.0123abcd.part", "..a.0123abcd.part.4567cdef.part"):
        (tmp_path / name).write_text("half")
        (tmp_path / name).with_suffix(".lock").touch()
    with atomic_folder(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
