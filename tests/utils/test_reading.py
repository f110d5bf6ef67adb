"""Text files are read by size and kind; errors name them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dmpo_explore.utils.files import read_json
from dmpo_explore.utils.texts import check_regular, named, read_text


def test_text_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes("äöü\n".encode())
    assert read_text(path) == read_text(path, 7) == "äöü\n"
    with pytest.raises(ValueError, match=r"a\.md has 7 bytes; a file of more than 6 is not read"):
        read_text(path, 6)
    path.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"a\.md is not UTF-8 text: invalid start byte at byte 2"):
        read_text(path)


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    for path, kind, text in (
        (tmp_path / "none", FileNotFoundError, "no file .*none"),
        (tmp_path / "pipe", ValueError, "pipe is not a regular file"),
        (tmp_path, ValueError, "is a folder, not a file"),
        (tmp_path / "loop", OSError, "loop cannot be read: Too many levels"),
        (tmp_path / "file" / "a", NotADirectoryError, "file/a cannot be read: Not a directory"),
        (Path("/dev/zero"), ValueError, "/dev/zero is not a regular file"),
    ):
        with pytest.raises(kind, match=text):
            read_text(path)
        with pytest.raises(kind, match=text):
            check_regular(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch(mode=0)
    with pytest.raises(PermissionError, match="a cannot be read: Permission denied"):
        read_text(tmp_path / "a")


def test_an_error_keeps_its_type_and_gets_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    denied = named(PermissionError(errno.EACCES, "Permission denied"), Path("a.npy"))
    assert type(denied) is PermissionError and str(denied) == "a.npy cannot be read: Permission denied"
    (tmp_path / "a").touch()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="a cannot be opened: too many files are open; raise the limit"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "is not read: Exceeds the limit"),
        ('{"a": }', r"line 1, column 7"),
    ],
)
def test_json_that_is_hard_to_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json.*{message}"):
        read_json(tmp_path / "a.json")
