"""Which images a selection keeps, in which order, on which pages."""

from __future__ import annotations

import numpy as np
import pytest
from dmpo_explore_app.services import selection
from dmpo_explore_app.services.selection import Selection, SelectionPlace
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_record

import dmpo_explore as dx

RECORD = make_record(200, 4, 5, seed=2, with_logits=False, split="test")
OUTCOME = dx.Outcome(RECORD, np.random.default_rng(1).integers(0, 4, 200))
MIXED = selection.shuffled(200)


@given(exit=st.integers(0, 4), label=st.integers(0, 5), answers=st.sampled_from(list(selection.ANSWERS)))
def test_filters_keep_what_they_say(exit: int, label: int, answers: str) -> None:
    keep = selection.mask(OUTCOME, Selection(exit, label, answers, "mixed", None))
    for row in range(200):
        here, last = bool(OUTCOME.correct[row]), bool(RECORD.correct[row, -1])
        wanted = {
            "all": True,
            "correct": here,
            "incorrect": not here,
            "overthinking avoided": here and not last,
            "early-exit error": last and not here,
        }[answers]
        wanted = wanted and exit in (0, OUTCOME.exits[row] + 1) and label in (0, RECORD.labels[row] + 1)
        assert keep[row] == wanted


def test_a_region_keeps_its_rows_alone() -> None:
    chosen = Selection(0, 2, "all", "mixed", None, region=(3, 8, 150))
    assert chosen.narrowed and not Selection(0, 0, "all", "mixed", None).narrowed
    wanted = [row for row in (3, 8, 150) if RECORD.labels[row] == 1]
    assert np.flatnonzero(selection.mask(OUTCOME, chosen)).tolist() == wanted
    assert np.flatnonzero(selection.within(RECORD, chosen)).tolist() == [3, 8, 150]


@pytest.mark.parametrize("sort", selection.SORTS)
def test_an_order_holds_the_same_images(sort: str) -> None:
    keep = RECORD.labels < 3
    rows = selection.ordered(OUTCOME, keep, sort)
    assert sorted(rows.tolist()) == np.flatnonzero(keep).tolist()
    sure = RECORD.confidence[rows, OUTCOME.exits[rows]]
    key = {"least confident": sure, "most confident": -sure, "number": rows, "class": RECORD.labels[rows]}.get(sort)
    assert key is None or (np.diff(key) >= 0).all()


def test_places_follow_each_other_through_the_selected_images() -> None:
    chosen = Selection(2, 0, "correct", "class", None)
    rows = selection.ordered(OUTCOME, selection.mask(OUTCOME, chosen), "class").tolist()
    found = [selection.place(OUTCOME, chosen, row) for row in rows]
    assert [place.number for place in found] == list(range(1, len(rows) + 1)) and found[0].total == len(rows) > 5
    assert [place.after for place in found] == [*rows[1:], None]
    assert [place.before for place in found] == [None, *rows[:-1]]


def test_an_image_that_is_not_selected_has_its_place_among_all() -> None:
    for chosen in (None, Selection(0, 1, "all", "class", None)):
        row = int(np.flatnonzero(RECORD.labels != 0)[3])
        assert selection.place(OUTCOME, chosen, row) == (row + 1, 200, row - 1, row + 1, None)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (Selection(1, 0, "incorrect", "mixed", None), " that exit at exit 1 and are incorrect, in mixed order"),
        (Selection(0, 0, "early-exit error", "class", None), " that are early-exit errors, by class"),
        (Selection(0, 0, "all", "number", None), ", by number"),
        (
            Selection(2, 3, "overthinking avoided", "most confident", None, region=(4, 5)),
            " that exit at exit 2, count as overthinking avoided, are of class same (class 3) and are in the region "
            "that you drew, most confident first",
        ),
    ],
)
def test_a_sentence_names_every_filter_and_the_order(chosen: Selection, words: str) -> None:
    names = ("a", "same", "same", "b", "c")
    assert selection.sentence(SelectionPlace(3, 1041, 0, 1, chosen), names) == f"Image 3 of 1,041{words}."
    assert selection.sentence(SelectionPlace(3, 1041, 0, 1, None), names) == ""


def test_every_filter_and_order_has_words() -> None:
    assert {"all", *selection.ARE} == set(selection.ANSWERS)


@given(rows=st.integers(0, 200), size=st.integers(1, 30), sections=st.booleans())
def test_pages_reach_every_image(rows: int, size: int, sections: bool) -> None:
    pages = selection.pages(OUTCOME, MIXED[:rows], sections, size)
    parts = [MIXED[:rows][OUTCOME.exits[MIXED[:rows]] == k] for k in range(4)] if sections else [MIXED[:rows]]
    shown = sum(part[page * size : (page + 1) * size].size for page in range(pages) for part in parts)
    assert shown == rows and pages >= 1


@given(rows=st.integers(0, 60), page=st.integers(0, 500), size=st.integers(1, 20))
def test_a_page_holds_each_image_once_and_pages_reach_all(rows: int, page: int, size: int) -> None:
    images = np.arange(rows) * 3
    shown = selection.page_of(images, page, size)
    assert len(shown) == len(set(shown.tolist())) == min(rows, size)
    pages = -(-rows // size)
    reached = {row for p in range(page, page + pages) for row in selection.page_of(images, p, size).tolist()}
    assert reached == set(images.tolist())


def test_the_order_is_fixed() -> None:
    assert np.array_equal(selection.shuffled(50), selection.shuffled(50))
    assert sorted(selection.shuffled(50)) == list(range(50))
