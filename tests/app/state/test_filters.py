"""Filters as widgets, clicks and links set them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dmpo_explore_app.state import filters
from synthetic import make_record

import dmpo_explore as dx

RECORD = make_record(200, 4, 5, seed=2, with_logits=False, split="test")


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
    turn = state[filters._TURN]
    filters.toggle("cell 1 1")
    assert state[filters._TURN] > turn  # other images: their first page
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
        chosen = filters.validate(record)
        assert chosen.label == label and filters.address(chosen, record) == {"class": text}


def test_a_class_menu_shows_names_as_they_are_and_tells_them_apart() -> None:
    names = ("T-shirt/top", "same", "same", "x" * 90)
    shown = dx.figures.unique_labels(names, 60)
    assert shown[:3] == ["T-shirt/top", "same (class 2)", "same (class 3)"]
    assert len(shown[3]) == 60 and shown[3].endswith("…")


def test_a_selection_has_an_address_and_comes_back(state: dict[str, Any]) -> None:
    for link in ({}, {"exit": "2", "class": RECORD.meta.class_names[3], "answers": "incorrect", "image": "0"}):
        state.clear()
        state.update(dict.fromkeys(filters.KEYS) | link)
        chosen = filters.validate(RECORD)
        assert filters.address(chosen, RECORD) == link
        assert chosen.narrowed == bool(link)


def test_a_region_is_of_its_record_and_foreign_rows_are_not_taken(state: dict[str, Any]) -> None:
    for bad in ("3", [1, "2"], [-1], [True], None, list(range(10_001))):
        filters.choose_region(bad)
        assert filters.REGION not in state
    filters.choose_region([3, 150])
    assert filters.validate(RECORD).region == (3, 150) == filters.validate(RECORD).region
    assert filters.validate(make_record(150, 4, 5, with_logits=False, split="test")).region == ()
    filters.choose_region([3, 150])
    filters.validate(RECORD)
    filters.clear()
    assert filters.validate(RECORD).region == ()
    filters.choose_region([199, 200])  # beyond the last row
    assert filters.validate(RECORD).region == ()


def test_a_class_and_an_image_are_of_their_data(state: dict[str, Any]) -> None:
    state.update(dict.fromkeys(filters.KEYS) | {"class": "2", "image": "7"})  # a link
    assert filters.validate(RECORD)[1:5:3] == (2, 7) == filters.validate(RECORD)[1:5:3]
    val = replace(RECORD, meta=replace(RECORD.meta, split="val"))
    assert filters.validate(val)[1:5:3] == (2, None)  # the same classes, other images
    filters.toggle("image 7")
    named = replace(val, meta=replace(val.meta, class_names=tuple("abcde")))
    assert filters.validate(named)[1:5:3] == (0, 7)
    seeded = replace(named, meta=replace(named.meta, images_sha256="f" * 64))
    assert filters.validate(seeded)[1:5:3] == (0, None)  # as many images of the same data, and others
    state.update({"class": "b", "image": "9"})  # a link to other data
    assert filters.validate(RECORD)[4] == 9
    state.update({"class": RECORD.meta.class_names[3]})
    assert filters.validate(RECORD).label == 4
