from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmpo_explore.utils import files

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_atomic_file_appears_whole_and_readable(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with files.atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert stat.S_IMODE(target.stat().st_mode) & 0o444 == 0o444
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with (
        pytest.raises(IsADirectoryError, match="results is a folder; name a file"),
        files.atomic_file(tmp_path / "results"),
    ):
        raise AssertionError("work that would be lost")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.skipif(os.name == "nt", reason="has no such files")
def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", Path(os.devnull)):
        with pytest.raises(OSError, match="is a pipe or a device"), files.atomic_file(path):
            raise AssertionError("work that would be lost")
    (tmp_path / "there").symlink_to(tmp_path / "file")
    files.write_text(tmp_path / "there", "text")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_who_may_read_is_what_the_umask_says(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        with files.atomic_file(tmp_path / "a.txt") as temporary:
            temporary.unlink()
            temporary.touch(0o600)  # as a library does that writes by itself
        with files.atomic_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b")] == [file, folder]


def test_atomic_file_keeps_the_old_one_on_any_interruption(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_folder_replaces_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "record"
    with files.atomic_folder(target) as temporary:
        (temporary / "one").write_text("1")
    with files.atomic_folder(target) as temporary:
        (temporary / "two").write_text("2")
    assert [path.name for path in target.iterdir()] == ["two"]
    with pytest.raises(RuntimeError, match="stop"), files.atomic_folder(target) as temporary:
        (temporary / "three").write_text("3")
        raise RuntimeError("stop")
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


@settings(max_examples=30)  # each writes to the disk
@given(value=json_values)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_what_is_not_json_is_refused_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1,\n  oops}', r"a\.json is not valid JSON \(line 2, column 3\)"), (b"\xff\xfe", r"a\.json is not UTF-8")],
)
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        files.read_json(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.json"):
        files.read_json(tmp_path / "b.json")


@given(content=st.binary(max_size=200))
def test_sha256_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    assert files.sha256(path) == hashlib.sha256(content).hexdigest()


def test_cache_dir_obeys_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "mine"))
    assert files.cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", "~/there")
    assert files.cache_dir() == Path.home() / "there"
    for empty in ("", "  "):
        monkeypatch.setenv("DMPO_EXPLORE_CACHE", empty)
        assert files.cache_dir().name == "dmpo-explore"
        assert files.cache_dir().is_absolute()
