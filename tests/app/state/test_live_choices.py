"""Session state of Live: settings are validated."""

from __future__ import annotations

from typing import Any

import pytest
from dmpo_explore_app.state import live_choices
from synthetic import make_record


@pytest.mark.parametrize(
    ("images", "counts", "default", "number"),
    [(60, ["all", "endless"], "all", 60), (1500, ["200", "1000", "all", "endless"], "1000", 1000)],
)
def test_numbers_of_images(state: dict[str, Any], images: int, counts: list[str], default: str, number: int) -> None:
    record = make_record(images)
    live_choices.validate(record)
    assert (
        live_choices.counts_for(record) == counts
        and state[live_choices.COUNT] == default
        and live_choices.n_images(record) == number
    )
    state[live_choices.COUNT] = "endless"
    assert live_choices.n_images(record) is None


def test_the_address_holds_what_differs_from_the_defaults(state: dict[str, Any]) -> None:
    state |= {live_choices.BATCH: "8", live_choices.ENGINE: "../x"}
    live_choices.validate(make_record(1500))
    assert live_choices.address() == {"batch": "8"} and len(state["said"]) == 1


def test_without_a_live_run_there_is_nothing_to_end(state: dict[str, Any]) -> None:
    live_choices.end()
    assert live_choices.current() is None
