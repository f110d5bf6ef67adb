"""Values and messages stay short whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.utils.texts import LONGEST, abbreviated, is_text, one_line, short

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
