"""An image is sent once; what the browser lacks is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dmpo_explore_app.state import sent


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(sent.st, "session_state", found)
    yield found


def test_an_image_is_sent_once() -> None:
    assert sent.lacking("ab") == ["a", "b"]
    sent.keep("ab")
    sent.keep("c")
    assert sent.lacking("abcd") == ["d"]


def test_many_images_are_forgotten_before_the_browser_does() -> None:
    for drawing in range(3):
        sent.keep([f"{drawing} {n}" for n in range(sent.MOST)])
    assert sent.lacking(["0 1", "1 1", "2 1"]) == ["0 1", "1 1"]


def test_what_the_browser_misses_is_sent_again() -> None:
    sent.keep("abc")
    sent.missed(["b", 3], ())
    sent.missed("c", ())  # no list
    assert sent.lacking("abc") == ["b"]
