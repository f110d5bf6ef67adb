"""Session state of Live: settings are validated, a start is taken once."""

from __future__ import annotations

from typing import Any

import pytest
from dmpo_explore_app.state import live
from synthetic import make_record


@pytest.mark.parametrize(
    ("images", "counts", "default", "number"),
    [(60, ["all", "endless"], "all", 60), (1500, ["200", "1000", "all", "endless"], "1000", 1000)],
)
def test_numbers_of_images(state: dict[str, Any], images: int, counts: list[str], default: str, number: int) -> None:
    record = make_record(images)
    live.validate(record)
    assert live.counts_for(record) == counts and state[live.COUNT] == default and live.n_images(record) == number
    state[live.COUNT] = "endless"
    assert live.n_images(record) is None


def test_the_address_holds_what_differs_from_the_defaults(state: dict[str, Any]) -> None:
    state |= {live.BATCH: "8", live.ENGINE: "../x"}
    live.validate(make_record(1500))
    assert live.address() == {"batch": "8"} and len(state["said"]) == 1


def test_a_start_is_taken_once(state: dict[str, Any]) -> None:
    live.request_start()
    assert live.take_start_request() and not live.take_start_request()


def test_without_a_live_run_there_is_nothing_to_end(state: dict[str, Any]) -> None:
    live.end()
    assert live.current() is None
