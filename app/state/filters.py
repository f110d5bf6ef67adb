"""Filters of the images on Explore, which widgets, clicks and links set alike."""

from __future__ import annotations

from typing import Any

import streamlit as st
from dmpo_explore_app.messages import escape_markdown, notice
from dmpo_explore_app.services.mosaic_data import AMOUNTS, USUAL
from dmpo_explore_app.services.selection import ANSWERS, SORTS, VIEWS, Rows, Selection, packed_region, unpacked_region
from dmpo_explore_app.services.selection import REGION as REGION_IN_WORDS
from dmpo_explore_app.state import choices, url
from dmpo_explore_app.state.redraw import redraw

import dmpo_explore as dx

EXIT, CLASS, ANSWER, SORT, IMAGE, VIEW, REGION = KEYS = (
    "exit", "class", "answers", "sort", "image", "view", "region",
)  # of the address and of the state; the region: rows that were drawn around  # fmt: skip
CLEAR = "clear"  # key of a button
_REGION_OF = "_region_of"  # the images that they belong to
_AMOUNT = "_mosaic_amount"  # how many tiles the mosaic has
_PAGES, _TURN = "_pages", "_page_turn"  # number of pages; how often other images began at their first page


def validate(record: dx.ExitRecord) -> Selection:
    """The values in the state, made valid; what was not gives a notice."""
    state, names = st.session_state, record.meta.class_names
    choices.keep_for(CLASS, names)
    choices.keep_for(IMAGE, choices.images_of(record))
    if isinstance(given := state.get(CLASS), str) and names.count(given) == 1:
        state[CLASS] = names.index(given) + 1
    for key, most in ((EXIT, record.n_exits), (CLASS, len(names))):
        state[key] = _whole(key, state.get(key), most)
    state[IMAGE] = _whole(IMAGE, state.get(IMAGE), record.n_images, first=0, none=None)
    for key, options in ((ANSWER, tuple(ANSWERS)), (SORT, SORTS), (VIEW, VIEWS)):
        value = state.get(key)
        if value not in options and value is not None:
            notice(f"There is no {key} {escape_markdown(repr(value), 60)} here; showing {options[0]}.")
        state[key] = value if value in options else options[0]
    state[REGION] = _region(record)
    return selection()


def current(record: dx.ExitRecord) -> Selection:
    """As `validate`, where the widgets are drawn already: only what has no widget is made valid."""
    st.session_state[IMAGE] = _whole(IMAGE, st.session_state.get(IMAGE), record.n_images, first=0, none=None)
    st.session_state[REGION] = _region(record)
    return selection()


def selection() -> Selection:
    """The values as `validate` left them; nothing is written, as their widgets may be drawn already."""
    state = st.session_state
    return Selection(*(state[key] for key in KEYS))


def not_in_address(record: dx.ExitRecord) -> str:
    """What a drawn region is called where it is too long for the address; empty where it is not, or none is drawn."""
    return REGION_IN_WORDS if (found := selection()).region and REGION not in address(found, record) else ""


def _region(record: dx.ExitRecord) -> tuple[int, ...]:
    """The region's rows; it is dropped where another record's images are shown."""
    state, of = st.session_state, choices.images_of(record)
    if isinstance(given := state.get(REGION), str):  # of an address
        try:
            given = unpacked_region(given, record.n_images)
        except ValueError:
            notice("There is no region of these images in this link; showing all.")
            given = ()
        state.pop(_REGION_OF, None)
    rows: tuple[int, ...] = given or ()
    if rows and (state.get(_REGION_OF, of) != of or max(rows) >= record.n_images):
        rows = ()
    if rows:
        state[_REGION_OF] = of
    else:
        state.pop(_REGION_OF, None)
    return rows


def _whole(key: str, given: Any, most: int, first: int = 1, none: int | None = 0) -> int | None:
    if given is None or given == none:
        return none
    try:
        number = int(given)
    except ValueError:
        number = -1
    if first <= number < first + most:
        return number
    notice(f"There is no {key} {escape_markdown(repr(given), 60)} here; showing all.")
    return none


def address(selection: Selection, record: dx.ExitRecord) -> dict[str, str]:
    parts = {}
    if selection.exit:
        parts[EXIT] = str(selection.exit)
    if selection.label:
        names, name = record.meta.class_names, record.meta.class_names[selection.label - 1]
        parts[CLASS] = name if names.count(name) == 1 else str(selection.label)
    if selection.image is not None:
        parts[IMAGE] = str(selection.image)
    if selection.region and len(region := packed_region(selection.region, record.n_images)) <= url.LONGEST:
        parts[REGION] = region
    values = {ANSWER: (selection.answers, "all"), SORT: (selection.sort, SORTS[0]), VIEW: (selection.view, VIEWS[0])}
    return parts | {key: value for key, (value, default) in values.items() if value != default}


def toggle(what: str) -> None:
    """A click on ``exit 2``, ``class 5``, ``cell 5 2`` (class 5 at exit 2) or ``image 17``; a second one undoes it."""
    kind, *numbers = what.split() or [""]
    keys = {"exit": (EXIT,), "class": (CLASS,), "cell": (CLASS, EXIT), "image": (IMAGE,)}.get(kind, ())
    if not keys or len(numbers) != len(keys) or not all(number.isdecimal() for number in numbers):
        return
    state, values = st.session_state, [int(number) for number in numbers]
    again = [state.get(key) for key in keys] == values
    for key, value in zip(keys, values, strict=True):
        state[key] = (None if key == IMAGE else 0) if again else value
    if kind != "image":
        first_page()


def choose_answer(answer: object, label: object) -> None:
    """A cell of the confusion matrix: a kind of answer of one class (from 1); a second click undoes it."""
    state = st.session_state
    if answer not in ANSWERS or not isinstance(label, int):
        return
    again = (state.get(ANSWER), state.get(CLASS)) == (answer, label)
    state.update({ANSWER: "all", CLASS: 0} if again else {ANSWER: answer, CLASS: label})
    first_page()


def choose_view(view: object) -> None:
    if view in VIEWS:
        st.session_state[VIEW] = view


def in_words(record: dx.ExitRecord) -> str:
    """The filters that are set, shortly; empty where none is."""
    chosen = selection()
    parts = [f"exit {chosen.exit}"] * bool(chosen.exit) + [chosen.answers] * (chosen.answers != "all")
    parts += [dx.figures.abbreviated(record.meta.class_names[chosen.label - 1], 20)] if chosen.label else []
    return ", ".join([*parts, *(["region"] if chosen.region else [])])


def clear() -> None:
    st.session_state.update({EXIT: 0, CLASS: 0, ANSWER: "all", IMAGE: None, REGION: ()})
    first_page()


def choose_region(rows: object) -> None:
    """The rows that were drawn around in mosaic or map; none: all images again."""
    if not isinstance(rows, list) or len(rows) > AMOUNTS[-1]:
        return
    if all(isinstance(row, int) and not isinstance(row, bool) and row >= 0 for row in rows):
        st.session_state[REGION] = tuple(rows)
        st.session_state.pop(_REGION_OF, None)
        first_page()


def amount() -> int:
    return int(st.session_state.get(_AMOUNT, USUAL))


def choose_amount(wanted: object) -> None:
    """The reader chose another number of tiles; what is not among `AMOUNTS` is not used."""
    if wanted in AMOUNTS:
        st.session_state[_AMOUNT] = wanted


def first_page() -> None:
    """Other images are shown: their pages begin at the first."""
    st.session_state[_TURN] = st.session_state.get(_TURN, 0) + 1


def page_among(pages: int) -> int:
    """The page on screen, from 0; another number of pages begins at the first."""
    st.session_state[_PAGES] = pages
    return int(st.session_state.get(pager_key(), 1)) - 1


def n_pages() -> int:
    return int(st.session_state[_PAGES])


def pager_key() -> str:
    return f"page of {st.session_state[_PAGES]}, {st.session_state.get(_TURN, 0)}"


def row_selected(table: str, rows: Rows, fragments: tuple[str, ...]) -> None:
    """A row of the table, which shows ``rows`` of the record, was selected or deselected."""
    places = st.session_state[table].selection.rows
    st.session_state[IMAGE] = int(rows[places[0]]) if places else None
    redraw(fragments)
