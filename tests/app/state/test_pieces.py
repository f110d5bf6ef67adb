"""What the browser keeps is not sent again; what may not have arrived is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dmpo_explore_app.state import pieces


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(pieces.st, "session_state", found)
    yield found


def test_pieces_are_kept_once_their_drawing_was_made() -> None:
    assert pieces.lacking("ab") == ["a", "b"]
    pieces.sent(1, "ab")
    assert pieces.lacking("abc") == ["a", "b", "c"]  # nothing says yet that they arrived
    pieces.made(1)
    assert pieces.lacking("abc") == ["c"]


def test_both_parts_of_a_drawing_count() -> None:
    pieces.sent(1, "a")
    pieces.sent(1, "b")
    pieces.made(1)
    assert pieces.lacking("ab") == []


def test_a_drawing_that_another_replaced_does_not_count() -> None:
    pieces.sent(1, "a")
    pieces.sent(2, "b")  # the browser may never have seen the first
    pieces.made(1)
    assert pieces.lacking("ab") == ["a", "b"]
    pieces.made(2)
    assert pieces.lacking("ab") == ["a"]


def test_many_pieces_are_forgotten_before_the_browser_does() -> None:
    for drawing in range(3):
        pieces.sent(drawing, [f"{drawing} {n}" for n in range(pieces.MOST)])
        pieces.made(drawing)
    assert pieces.lacking(["0 1", "1 1", "2 1"]) == ["0 1", "1 1"]


def test_what_the_browser_misses_is_sent_again() -> None:
    pieces.sent(1, "ab")
    pieces.made(1)
    pieces.missed(())
    assert pieces.lacking("ab") == ["a", "b"]
