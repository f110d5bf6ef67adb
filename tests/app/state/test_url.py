"""The page's address: what is too long for it undoes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from dmpo_explore_app.state import decide_choices, url


class Address(dict[str, str]):
    """Stands for `st.query_params`."""

    def from_dict(self, values: dict[str, str]) -> None:
        self.clear()
        self.update(values)


@pytest.fixture
def state(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(url.st, "query_params", Address())
    return state


def chosen(state: dict[str, Any], **values: str) -> None:
    """A first drawing, and one after these values were chosen."""
    url.follow(values)
    url.write(**dict.fromkeys(values, "usual"))
    state.update(values)
    url.write(**values)


def test_the_longest_choice_of_runs_is_an_address(state: dict[str, Any]) -> None:
    runs = ",".join([100 * "x"] * decide_choices.MOST)
    chosen(state, runs=runs)
    assert url.st.query_params["runs"] == runs and not url.follow(["runs"]) and state["runs"] == runs


def test_what_an_address_cannot_hold_is_left_out_and_stays_chosen(state: dict[str, Any]) -> None:
    values = {"runs": "x" * (url.LONGEST + 1), "split": "test"}
    chosen(state, **values)
    assert dict(url.st.query_params) == {"split": "test"}
    assert not url.follow(values) and state["runs"] == values["runs"]
