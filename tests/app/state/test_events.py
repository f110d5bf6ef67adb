"""Events of components: what an answer that was not drawn yet would undo is put back, on pages that count drawings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dmpo_explore_app.state import events, targets
from dmpo_explore_app.state.events import before_drawing, handle, keep_choices, last


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(events.st, "session_state", found)
    yield found


def choose(state: dict[str, Any], threshold: str) -> Any:
    return lambda: state.update({targets.THRESHOLD: threshold})


def test_an_event_on_an_old_drawing_does_not_undo_the_one_before(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1, "answered": 0}, choose(state, "0.5"))
    state[targets.THRESHOLD] = "0.9"  # what the browser held before it drew the answer
    handle({"event": 2, "answered": 0}, lambda: None)
    assert state[targets.THRESHOLD] == "0.5" and last() == 2


def test_what_was_chosen_since_the_answer_is_kept(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1}, choose(state, "0.5"))
    before_drawing()
    state[targets.THRESHOLD] = "0.9"  # by a widget, after the answer
    handle({"event": 2, "answered": 1}, lambda: None)
    assert state[targets.THRESHOLD] == "0.9"


def test_old_values_that_come_with_an_event_are_not_drawn(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1, "answered": 0}, choose(state, "0.5"))
    state[targets.THRESHOLD] = "0.9"
    before_drawing()
    assert state[targets.THRESHOLD] == "0.5"


def test_a_page_that_tells_no_answers_keeps_what_was_chosen_since(state: dict[str, Any]) -> None:
    keep_choices(True)
    handle({"event": 1, "answered": 0}, choose(state, "0.5"))
    keep_choices(False)  # another page
    handle({"event": 2, "answered": 0}, lambda: None)
    state[targets.THRESHOLD] = "0.7"  # by a widget of that page
    handle({"event": 3, "answered": 0}, lambda: None)
    assert state[targets.THRESHOLD] == "0.7"
    keep_choices(True)  # back: nothing waits to be put back
    before_drawing()
    assert state[targets.THRESHOLD] == "0.7" and last() == 3
