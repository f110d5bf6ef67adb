"""Events of components: what an answer that was not drawn yet would undo is put back, on pages that count drawings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dmpo_explore_app.state import events, targets
from dmpo_explore_app.state.events import drawing, handle, not_counted


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(events.st, "session_state", found)
    monkeypatch.setattr(events.sent_images, "made", lambda of: None)
    yield found


def choose(state: dict[str, Any], threshold: str) -> Any:
    return lambda: state.update({targets.THRESHOLD: threshold})


def test_an_event_on_an_old_drawing_does_not_undo_the_one_before(state: dict[str, Any]) -> None:
    drawing()
    handle({"of": 1}, choose(state, "0.5"))
    state[targets.THRESHOLD] = "0.9"  # what the browser held before it drew the answer
    handle({"of": 1}, lambda: None)
    assert state[targets.THRESHOLD] == "0.5"


def test_a_page_that_counts_no_drawings_keeps_what_was_chosen_since(state: dict[str, Any]) -> None:
    drawing()
    handle({"of": 1}, choose(state, "0.5"))
    not_counted()  # another page
    handle({"of": 1}, lambda: None)
    state[targets.THRESHOLD] = "0.7"  # by a widget of that page
    handle({"of": 1}, lambda: None)
    assert state[targets.THRESHOLD] == "0.7"
    drawing()  # back: nothing waits to be put back
    assert state[targets.THRESHOLD] == "0.7"
