"""Texts: values and messages stay short; files are read by size and kind, and errors name them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from failing import raising
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.utils.files import read_json
from dmpo_explore.utils.texts import LONGEST, abbreviated, check_regular, is_text, named, one_line, read_text, short

NESTED: list[Any] = []
for _ in range(900):
    NESTED = [NESTED]


@given(st.lists(st.integers(-99, 99), max_size=5) | st.text(max_size=7) | st.none() | st.floats())
def test_a_small_value_is_its_repr(value: object) -> None:
    assert short(value) == repr(value)


@pytest.mark.parametrize("value", ["x" * 10**6, list(range(10**5)), {i: i for i in range(10**5)}, 10**400, NESTED])
def test_a_large_value_is_cut(value: object) -> None:
    assert 3 < len(short(value)) <= LONGEST and "..." in short(value)


@given(st.text(), st.integers(10, 50))
def test_a_message_is_one_printable_line(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) <= longest and len(line.splitlines()) <= 1
    line.encode()


def test_a_long_message_keeps_begin_and_end() -> None:
    assert one_line("a\n\tb\x1b[31m") == "a b [31m"
    assert one_line("file.npy: " + "x" * 10**6 + " (at line 3)", 40) == "file.npy: xxxxxxxx … xxxxxxx (at line 3)"


@given(st.text(), st.integers(2, 50))
def test_a_long_name_ends_in_an_ellipsis(text: str, longest: int) -> None:
    name = abbreviated(text, longest)
    assert len(name) <= longest
    assert name == text if len(text) <= longest else name.endswith("…") and text.startswith(name[:-1])


def test_text_has_a_length_and_can_be_encoded() -> None:
    assert is_text("tänd\n", 5) and not is_text("sechs.", 5)
    assert not is_text("\udfff", 5)


# -- files --


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

    monkeypatch.setattr(Path, "open", raising(OSError(errno.EMFILE, "Too many open files")))
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
