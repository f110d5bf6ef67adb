"""What the browser keeps is not sent again; what may not have arrived is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dmpo_explore_app.state import sent_images


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(sent_images.st, "session_state", found)
    yield found


def test_pieces_are_kept_once_their_drawing_was_made() -> None:
    assert sent_images.lacking("ab") == ["a", "b"]
    sent_images.sent(1, "ab")
    assert sent_images.lacking("abc") == ["a", "b", "c"]  # nothing says yet that they arrived
    sent_images.made(1)
    assert sent_images.lacking("abc") == ["c"]


def test_both_parts_of_a_drawing_count() -> None:
    sent_images.sent(1, "a")
    sent_images.sent(1, "b")
    sent_images.made(1)
    assert sent_images.lacking("ab") == []


def test_a_drawing_that_another_replaced_does_not_count() -> None:
    sent_images.sent(1, "a")
    sent_images.sent(2, "b")  # the browser may never have seen the first
    sent_images.made(1)
    assert sent_images.lacking("ab") == ["a", "b"]
    sent_images.made(2)
    assert sent_images.lacking("ab") == ["a"]


def test_many_pieces_are_forgotten_before_the_browser_does() -> None:
    for drawing in range(3):
        sent_images.sent(drawing, [f"{drawing} {n}" for n in range(sent_images.MOST)])
        sent_images.made(drawing)
    assert sent_images.lacking(["0 1", "1 1", "2 1"]) == ["0 1", "1 1"]


def test_what_the_browser_misses_is_sent_again() -> None:
    sent_images.sent(1, "ab")
    sent_images.made(1)
    sent_images.missed(())
    assert sent_images.lacking("ab") == ["a", "b"]
