"""Who leaves where, linked: classes by exits, pictures by exit or as a table, one image in detail.

In: a record, what a policy does there, and what is selected. Out: the lower half of Explore. Every part narrows the
others; see `selection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import streamlit as st
from dmpo_explore_app.components import gallery, widgets
from dmpo_explore_app.services import images
from dmpo_explore_app.state import filters as filters_module
from dmpo_explore_app.state import links
from dmpo_explore_app.state.filters import Selection

import dmpo_explore as dx
from dmpo_explore.figures import style
from dmpo_explore.utils.typing import Bools, Ints

LINES = {4: 20}  # pictures of each exit at a time for up to so many exits
FEW, PAGE = 10, 60  # ... for more exits, and where one exit is chosen
ROWS = 100  # of the table at a time


def views(
    run: dx.Run,
    split: str,
    record: dx.ExitRecord,
    exits: Ints,
    right: Bools,
    chosen: Selection,
    threshold: str,
) -> None:
    """Filters, then the heat map beside the pictures or their table."""
    filters(record, chosen)
    keep = filters_module.mask(record, exits, right, chosen)
    rows = filters_module.ordered(record, exits, keep, chosen.sort, images.shuffled(record.n_images))
    picture = widgets.picture_source(run, split)
    with st.container(key="linked"):
        left, wide = st.columns([4, 9], gap="medium")
    with left:
        if chosen.image is not None:
            body = gallery.detail(record, chosen.image, int(exits[chosen.image]), picture)
            widgets.clickable(body, "detail", filters_module.toggle)
            query = links.as_now(run, split, chosen.image, threshold)
            st.page_link(links.PAGE, label="Why there? See it in One image", icon=links.ICON, query_params=query)
        classes(record, exits, right, chosen, threshold)
    with wide:
        if st.session_state["view"] == "table":
            as_table(record, exits, right, rows, picture)
        else:
            as_pictures(record, exits, right, rows, picture, chosen, threshold)


def filters(record: dx.ExitRecord, chosen: Selection) -> None:
    """The widgets of the selection; what they hold is settled."""
    names, exits = record.meta.class_names, record.meta.exit_blocks
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="filters"):
        st.selectbox(
            "Leaves at",
            range(record.n_exits + 1),
            format_func=lambda k: f"exit {k}, block {exits[k - 1]}" if k else "any exit",
            key="exit",
            width=170,
            on_change=filters_module.first_page,
            persist_state="session",
        )
        st.selectbox(
            "Class",
            range(len(names) + 1),
            format_func=lambda c: _class_name(names, c) if c else "every class",
            key="class",
            width=180,
            on_change=filters_module.first_page,
            persist_state="session",
        )
        st.segmented_control(
            "Answer",
            list(filters_module.ANSWERS),
            key="answers",
            required=True,
            on_change=filters_module.first_page,
            persist_state="session",
            help="  \n".join(f"**{name}**: {what}." for name, what in filters_module.ANSWERS.items()),
        )
        st.selectbox(
            "Order",
            filters_module.SORTS,
            key="sort",
            width=140,
            on_change=filters_module.first_page,
            persist_state="session",
        )
        st.segmented_control("As", filters_module.VIEWS, key="view", required=True, persist_state="session")
        st.button(
            "Show all again",
            icon=":material/filter_alt_off:",
            key="clear",
            disabled=not chosen.narrowed,
            on_click=filters_module.clear,
        )


def _class_name(names: Sequence[str], number: int) -> str:
    """Class ``number`` (from 1) in a menu, which shows text as it is; one that shares its name is told apart."""
    name = names[number - 1]
    short = name if len(name) <= 60 else f"{name[:59]}…"
    return short if names.count(name) == 1 else f"{short} (class {number})"


def classes(record: dx.ExitRecord, exits: Ints, right: Bools, chosen: Selection, threshold: str) -> None:
    """The heat map; a cell, a row's name or a column's number narrows."""
    image = chosen.image
    marked = (0, 0) if image is None else (int(record.labels[image]) + 1, int(exits[image]) + 1)
    body = gallery.heat_map(record, exits, right, (chosen.label, chosen.exit), marked)
    widgets.clickable(f'<div class="dx-heat" data-threshold="{threshold}">{body}</div>', "heat", filters_module.toggle)


def as_pictures(
    record: dx.ExitRecord,
    exits: Ints,
    right: Bools,
    rows: Ints,
    picture: Callable[[int], str] | None,
    chosen: Selection,
    threshold: str,
) -> None:
    """Pictures: a section for each exit, or one for the chosen exit."""
    shown = [chosen.exit - 1] if chosen.exit else list(range(record.n_exits))
    few = next((n for most, n in LINES.items() if record.n_exits <= most), FEW)
    size = PAGE if len(shown) == 1 else few
    page = _page(filters_module.pages(rows, exits, record.n_exits, len(shown) > 1, size))
    totals = np.bincount(exits, minlength=record.n_exits).tolist()
    colours, parts, where = style.exit_colours(record.n_exits), [], exits[rows]
    for exit in shown:
        mine = rows[where == exit]
        share = float(right[mine].mean()) if mine.size else 0.0
        parts.append(gallery.exit_header(record, exit, mine.size, totals[exit], share, colours[exit]))
        here = mine[page * size : (page + 1) * size]
        if here.size:
            parts.append(gallery.figures(record, exit, here, picture, chosen.image, buttons=True))
        else:
            parts.append(f'<p class="dx-none">{"No more on this page." if mine.size else "Nobody."}</p>')
    body = f'<div class="dx-shown" data-threshold="{threshold}">{"".join(parts)}</div>'
    widgets.clickable(body, "pictures", filters_module.toggle)
    _pager()


def as_table(
    record: dx.ExitRecord, exits: Ints, right: Bools, rows: Ints, picture: Callable[[int], str] | None
) -> None:
    """The same images as rows; selecting one shows what every exit says about it."""
    if not rows.size:
        st.caption("Nobody: no image is left by these filters.")
        return
    page = _page(filters_module.pages(rows, exits, record.n_exits, False, ROWS))
    here = rows[page * ROWS : (page + 1) * ROWS]
    shown = table(record, exits, right, here)
    if picture is not None:
        shown.insert(0, "picture", [picture(int(row)) for row in here])
    key = f"table {hash(here.tobytes())}"  # a selection belongs to these rows

    def picked() -> None:
        places = st.session_state[key].selection.rows
        st.session_state["image"] = int(here[places[0]]) if places else None

    st.caption(f"{rows.size:,} images. Select a row to see what every exit says about it.")
    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        height=560,
        row_height=44,
        on_select=picked,
        selection_mode="single-row",
        column_config={
            "picture": st.column_config.ImageColumn("picture", width=60),
            "confidence": st.column_config.ProgressColumn("confidence", format="percent", min_value=0, max_value=1),
        },
        alt="Images with the exit at which they leave and what it says.",
    )
    _pager()


def table(record: dx.ExitRecord, exits: Ints, right: Bools, rows: Ints) -> pd.DataFrame:
    """One row per image: number, class, exit (from 1), what it says, whether that is right, what the last exit says."""
    names = np.asarray(record.meta.class_names, dtype=object)
    numbers = rows if record.meta.indices is None else record.meta.indices[rows]
    return pd.DataFrame(
        {
            "image": np.asarray(numbers),
            "class": names[record.labels[rows]],
            "exit": exits[rows] + 1,
            "says": names[record.prediction[rows, exits[rows]]],
            "right": right[rows],
            "confidence": record.confidence[rows, exits[rows]],
            "last exit says": names[record.prediction[rows, -1]],
        }
    )


def _page(pages: int) -> int:
    """The page that is shown, from 0, as `_pager` below was left; another number of pages begins at the first."""
    st.session_state["_pages"] = pages
    return int(st.session_state.get(_pager_key(), 1)) - 1


def _pager() -> None:
    if st.session_state["_pages"] > 1:
        st.pagination(st.session_state["_pages"], key=_pager_key())


def _pager_key() -> str:
    return f"page of {st.session_state['_pages']}, {st.session_state.get('_turn', 0)}"
