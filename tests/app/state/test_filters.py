"""Which images are looked at, in which order; what a click does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dmpo_explore_app.components import exit_explorer
from dmpo_explore_app.state import filters
from dmpo_explore_app.state.filters import Selection
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_record

RECORD = make_record(200, 4, 5, seed=2, with_logits=False, split="test")
EXITS = np.random.default_rng(1).integers(0, 4, 200)
RIGHT = RECORD.correct[np.arange(200), EXITS]
MIXED = np.random.default_rng(0).permutation(200)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(filters.st, "session_state", found)
    return found


@given(exit=st.integers(0, 4), label=st.integers(0, 5), answers=st.sampled_from(list(filters.ANSWERS)))
def test_filters_keep_what_they_say(exit: int, label: int, answers: str) -> None:
    keep = filters.mask(RECORD, EXITS, RIGHT, Selection(exit, label, answers, "mixed", None))
    for row in range(200):
        here, last = bool(RIGHT[row]), bool(RECORD.correct[row, -1])
        wanted = {
            "all": True,
            "right": here,
            "wrong": not here,
            "overthought": here and not last,
            "too early": last and not here,
        }[answers]
        wanted = wanted and exit in (0, EXITS[row] + 1) and label in (0, RECORD.labels[row] + 1)
        assert keep[row] == wanted


@pytest.mark.parametrize("sort", filters.SORTS)
def test_an_order_holds_the_same_images(sort: str) -> None:
    keep = RECORD.labels < 3
    rows = filters.ordered(RECORD, EXITS, keep, sort, MIXED)
    assert sorted(rows.tolist()) == np.flatnonzero(keep).tolist()
    sure = RECORD.confidence[rows, EXITS[rows]]
    key = {"least sure": sure, "most sure": -sure, "number": rows, "class": RECORD.labels[rows]}.get(sort)
    assert key is None or (np.diff(key) >= 0).all()


@given(rows=st.integers(0, 200), size=st.integers(1, 30), sections=st.booleans())
def test_pages_reach_every_image(rows: int, size: int, sections: bool) -> None:
    pages = filters.pages(MIXED[:rows], EXITS, 4, sections, size)
    parts = [MIXED[:rows][EXITS[MIXED[:rows]] == k] for k in range(4)] if sections else [MIXED[:rows]]
    shown = sum(part[page * size : (page + 1) * size].size for page in range(pages) for part in parts)
    assert shown == rows and pages >= 1


def test_a_click_narrows_and_the_same_click_undoes_it(state: dict[str, Any]) -> None:
    filters.toggle("cell 3 2")
    assert (state["class"], state["exit"]) == (3, 2)
    filters.toggle("exit 4")
    assert (state["class"], state["exit"]) == (3, 4)
    filters.toggle("class 3")
    assert (state["class"], state["exit"]) == (0, 4)
    filters.toggle("image 17")
    assert state["image"] == 17
    filters.toggle("image 17")
    assert state["image"] is None
    turn = state["_turn"]
    filters.toggle("cell 1 1")
    assert state["_turn"] > turn  # other images: their first page
    filters.clear()
    assert (state["class"], state["exit"], state["answers"], state["image"]) == (0, 0, "all", None)


@pytest.mark.parametrize("what", ["", "exit", "exit x", "exit -1", "cell 1", "run 1", "exit 1 2", "class ²"])
def test_nonsense_is_no_click(state: dict[str, Any], what: str) -> None:
    filters.toggle(what)
    assert not {"exit", "class", "image"} & set(state)


def test_classes_that_share_a_name_are_addressed_by_number(state: dict[str, Any]) -> None:
    record = make_record(40, 3, 4, class_names=("same", "same", "c", "d"), with_logits=False, split="test")
    for label, text in ((1, "1"), (2, "2"), (3, "c")):
        state.clear()
        state.update(dict.fromkeys(filters.KEYS) | {"class": text})
        chosen = filters.settle(record)
        assert chosen.label == label and filters.address(chosen, record) == {"class": text}


def test_a_class_menu_shows_names_as_they_are_and_tells_them_apart() -> None:
    names = ("T-shirt/top", "same", "same", "x" * 90)
    shown = [exit_explorer._class_name(names, number) for number in range(1, 5)]
    assert shown[:3] == ["T-shirt/top", "same (class 2)", "same (class 3)"]
    assert len(shown[3]) == 60 and shown[3].endswith("…")


def test_a_selection_has_an_address_and_comes_back(state: dict[str, Any]) -> None:
    for link in ({}, {"exit": "2", "class": RECORD.meta.class_names[3], "answers": "wrong", "image": "0"}):
        state.clear()
        state.update(dict.fromkeys(filters.KEYS) | link)
        chosen = filters.settle(RECORD)
        assert filters.address(chosen, RECORD) == link
        assert chosen.narrowed == bool(link)
