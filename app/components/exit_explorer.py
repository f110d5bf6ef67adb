"""What the page draws of Explore's tabs: classes by exits, images or their table, another place; filters; the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from dmpo_explore_app.components import gallery, widgets
from dmpo_explore_app.components.clickable import clickable, clickable_images
from dmpo_explore_app.components.threshold_slider import supplies
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import chosen_image, class_rows, exploration, own_runs, records, run_facts, selection
from dmpo_explore_app.services.chosen_image import ChosenFacts
from dmpo_explore_app.services.class_rows import ClassView
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.records import Stamp
from dmpo_explore_app.services.selection import Rows, Selection
from dmpo_explore_app.state import class_view, filters, links, operating_point, panels, targets
from dmpo_explore_app.state.redraw import Fragments

import dmpo_explore as dx

LINES = {4: 20}  # images of each exit at a time for up to so many exits
FEW, PAGE = 15, 60  # the same for more exits, and where one exit is chosen
ROWS = 100  # of the table at a time
LAST = "last exit's prediction"  # a column
Thumbnail = Callable[[int], str] | None
HEIGHT = 340  # of the charts of another place
WAYS = {  # as `dx.analysis.transfer` has them: fitted on, tested on, held
    ("home", "home", False): ("here", "here"),
    ("home", "away", False): ("here", "there"),
    ("home", "away", True): ("here, exit shares held", "there"),
    ("away", "away", False): ("there", "there"),
}


def draw(point: OperatingPoint, chosen: Selection, fragments: Fragments) -> None:
    """What the chosen tab has below the slider: classes, or images or their table."""
    if chosen.view == "elsewhere":
        transfers(point)
        return
    outcome = point.outcome
    drawn = chosen.view in ("classes", "images", "table")
    if not drawn and own_runs.is_own(point.run):
        return  # where there are no images, the mosaic explains its tiles
    thumbnail = widgets.thumbnail_source(point.run, point.split)
    if not drawn:
        return
    rows = selection.ordered(outcome, selection.mask(outcome, chosen), chosen.sort)
    with st.container(key="linked", gap="small"):
        if chosen.view == "classes":
            classes(point, chosen, fragments.filters)
        elif chosen.view == "table":
            as_table(outcome, rows, thumbnail, fragments.images)
        else:
            as_images(point, rows, thumbnail, chosen, fragments.images)


def draw_chosen(point: OperatingPoint, facts: ChosenFacts, chosen: Selection) -> None:
    """What the slider's drawer lacks: the picture, large, and the link that its button follows."""
    supplies.supply("picture", facts["picture"], chosen_image.picture(point, facts))
    with st.container(key=f"{supplies.HIDDEN}_link"):
        query = links.to_image(point, facts["row"]) | filters.address(chosen.alone, point.record)
        st.page_link(links.PAGE, label="Open in One image", query_params=query)


def draw_filters(record: dx.ExitRecord) -> None:
    """A popover with the widgets of the selection, whose values are validated; its button names those that are set."""
    names, blocks = record.meta.class_names, run_facts.blocks(record)
    shared: dict[str, Any] = {"on_change": filters.first_page, "persist_state": "session"}
    with st.popover(filters.in_words(record) or "Filter", icon=":material/filter_alt:", key=panels.FILTERS):
        st.pills(
            "Exits at",
            range(record.n_exits + 1),
            format_func=lambda k: f"{k} (block {blocks[k - 1]})" if k and blocks else str(k or "any"),
            key=filters.EXIT,
            required=True,
            **shared,
        )
        answers = "  \n".join(f"**{name}**: {what}." for name, what in selection.ANSWERS.items())
        st.pills("Prediction", list(selection.ANSWERS), key=filters.ANSWER, required=True, help=answers, **shared)
        titles = ("every class", *dx.figures.unique_labels(names, 60))
        st.selectbox("Class", range(len(names) + 1), format_func=titles.__getitem__, key=filters.CLASS, **shared)
        st.selectbox("Order in gallery and table", selection.SORTS, key=filters.SORT, **shared)
        chosen = filters.selection()
        st.button("Clear filters", key=filters.CLEAR, disabled=not chosen.narrowed, on_click=filters.clear)


def as_images(
    point: OperatingPoint, rows: Rows, thumbnail: Thumbnail, chosen: Selection, fragments: tuple[str, ...]
) -> None:
    outcome, record = point.outcome, point.outcome.record
    shown = [chosen.exit - 1] if chosen.exit else list(range(record.n_exits))
    few = next((n for most, n in LINES.items() if record.n_exits <= most), FEW)
    size = PAGE if len(shown) == 1 else few
    page = filters.page_among(selection.pages(outcome, rows, len(shown) > 1, size))
    totals = np.bincount(outcome.exits, minlength=record.n_exits).tolist()
    colours, exits = dx.figures.exit_colours(record.n_exits), outcome.exits[rows]
    parts: list[str | list[str]] = []
    for exit in shown:
        own = rows[exits == exit]
        here = own[page * size : (page + 1) * size]
        if page and not here.size:
            continue  # what it has is on earlier pages
        accuracy = float(outcome.correct[own].mean()) if own.size else 0.0
        parts.append(gallery.exit_header(record, exit, own.size, totals[exit], accuracy, colours[exit]))
        if here.size:
            of = exploration.images_key(point, thumbnail is not None)
            parts.append([f"{of} {exit} {row} {int(row == chosen.image)}" for row in here.tolist()])
        else:
            parts.append('<p class="dx-none">No images.</p>')

    def image(name: str) -> str:
        exit, row, picked = map(int, name.split()[1:])
        return gallery.figure(record, exit, row, thumbnail, bool(picked))

    clickable_images(operating_point.text(point.policy), parts, image, "pictures", filters.toggle, fragments)
    _pager()


def as_table(outcome: dx.Outcome, rows: Rows, thumbnail: Thumbnail, fragments: tuple[str, ...]) -> None:
    """The same images as rows; selecting one shows the prediction of every exit for it."""
    if not rows.size:
        st.caption("No image passes these filters.")
        return
    page = filters.page_among(selection.pages(outcome, rows, False, ROWS))
    here = rows[page * ROWS : (page + 1) * ROWS]
    shown = table(outcome, here)
    shown["correct"] = np.where(shown["correct"], "✓", "✗")  # a box would ask to be ticked
    if thumbnail is not None:
        shown.insert(0, "thumbnail", [thumbnail(int(row)) for row in here])
    key = f"table {hash(here.tobytes())}"  # a selection belongs to these rows
    st.dataframe(
        shown,
        key=key,
        hide_index=True,
        height=560,
        row_height=44,
        on_select=partial(filters.row_selected, key, here, fragments),
        selection_mode="single-row",
        column_config={
            "thumbnail": st.column_config.ImageColumn("thumbnail", width=60),
            **{name: st.column_config.Column(width=64) for name in ("image", "exit", "correct")},
            "confidence": st.column_config.ProgressColumn("confidence", format="percent", min_value=0, max_value=1),
        },
        column_order=("thumbnail", "image", "exit", "correct", "prediction", "class", "confidence", LAST),
        alt="Images with the exit at which they exit and its prediction.",
    )
    st.caption(f"{rows.size:,} images. Select a row to see the prediction of every exit.")
    _pager()


def table(outcome: dx.Outcome, rows: Rows) -> pd.DataFrame:
    """One row per image: number, class, exit (from 1), prediction there, whether it is correct, the last exit's."""
    record = outcome.record
    names = np.asarray(record.meta.class_names, dtype=object)
    numbers = rows if record.meta.indices is None else record.meta.indices[rows]
    return pd.DataFrame(
        {
            "image": np.asarray(numbers),
            "class": names[record.labels[rows]],
            "exit": outcome.exits[rows] + 1,
            "prediction": names[outcome.prediction[rows]],
            "correct": outcome.correct[rows],
            "confidence": outcome.confidence[rows],
            LAST: names[record.prediction[rows, -1]],
        }
    )


def downloads(point: OperatingPoint) -> dict[str, Callable[[], pd.DataFrame]]:
    rows = np.arange(point.record.n_images)
    return {
        "classes": partial(dx.analysis.class_metrics, point.outcome),
        "images": partial(table, point.outcome, rows),
        "curve": partial(exploration.curve, point),
    }


def _pager() -> None:
    if filters.n_pages() > 1:
        st.pagination(filters.n_pages(), key=filters.pager_key())


# -- classes by exits, whose parts filter the images; of many a search, an order, and pages --


def classes(point: OperatingPoint, chosen: Selection, fragments: tuple[str, ...]) -> None:
    """The heat map; a cell, a row's name or a column's number sets a filter and draws ``fragments`` again."""
    outcome, view = point.outcome, class_view.validate()
    names = outcome.record.meta.class_names
    if len(names) > class_rows.FEW:
        widgets.class_choices("class_rows", class_view.KEYS, class_rows.ORDERS, searching=bool(view.find))
    else:
        view = ClassView()
    pinned = {chosen.label - 1} if chosen.label else set()
    pinned |= set() if chosen.image is None else {int(outcome.record.labels[chosen.image])}
    _, pages = class_rows.rows(outcome, view, pinned)
    shown, _ = class_rows.rows(outcome, view, pinned, class_view.page(view, pages))
    st.caption(_class_summary(names, view, *class_rows.moved(outcome)))
    of = selection.within(outcome.record, chosen)
    body = gallery.heat_map(outcome, (chosen.label, chosen.exit), chosen.image, shown, of)
    text = operating_point.text(point.policy)
    body = f'<div class="dx-heat" data-threshold="{text}">{body}</div>'
    clickable(body, "heat", filters.toggle, fragments)
    if pages > 1:
        st.pagination(pages, key=class_view.pager_key(view, pages))


def _class_summary(names: tuple[str, ...], view: ClassView, lose: int, gain: int) -> str:
    order = class_rows.ORDERS[view.order]
    if not view.find:
        return f"{len(names):,} classes, {order}. Against the last exit {lose:,} lose and {gain:,} gain."
    count = len(class_rows.found(names, view.find))
    return f"{count:,} of {len(names):,} classes contain “{escape_markdown(view.find)}”, {order}."


# -- what a run and the chosen target do on images of another place, and what fitting again there repairs --


def transfers(point: OperatingPoint) -> None:
    """A story, a chart and a table for every place on which the run is recorded too."""
    run, target = point.run, targets.chosen() or dx.fitting.DEFAULT_TARGET
    home = run_facts.data(run.config.data.name)
    for number, place in enumerate(dx.analysis.transfer_places(run)):
        away = run_facts.data(place)
        away = f"{away} (there)" if away == home else away
        with st.container(key=f"transfer {number}"):
            stamps = tuple(records.stamp(run, split) for split in run.splits())
            found = _transfer(str(run.path), stamps, place, point.policy.name, target)
            st.markdown(_transfer_story(found, home, away))
            figure = dx.figures.transfer_figure(found, home, away)
            widgets.chart(figure, f"transfer figure {number}", HEIGHT, _transfer_alt(found, away))
            st.table(_transfer_table(found))


@st.cache_resource(max_entries=64, show_spinner="Fitting there too …")
def _transfer(path: str, stamps: tuple[Stamp, ...], place: str, policy: str, target: dx.Target) -> dx.analysis.Transfer:
    del stamps  # records that changed
    return dx.analysis.transfer_run(dx.load_run(path), place, [target], policy)


def _transfer_story(found: dx.analysis.Transfer, home: str, away: str) -> str:
    frozen, again = found.thresholds.iloc[1], found.thresholds.iloc[-1]
    first, last = (100 * found.exits["lost"].iloc[k] for k in (0, -1))
    return (
        f"The model learned {escape_markdown(home)}; these are its answers on {escape_markdown(away)}. Exit 1 loses "
        f"**{first:.0f} points** there, the last exit {last:.0f}. Thresholds fitted here for "
        f"*{escape_markdown(frozen['target'])}* used {frozen['fitted_flops']:.0%} of the compute, and there use "
        f"**{frozen['flops_fraction']:.0%}**; fitted again there, {again['flops_fraction']:.0%}, with "
        f"{again['accuracy']:.0%} correct in place of {frozen['accuracy']:.0%}."
    )


def _transfer_alt(found: dx.analysis.Transfer, place: str) -> str:
    rows = found.exits
    both = f"from {rows['home'].iloc[0]:.0%} to {rows['home'].iloc[-1]:.0%} here"
    return f"Accuracy of every exit: {both}, {rows['away'].iloc[0]:.0%} to {rows['away'].iloc[-1]:.0%} on {place}."


def _transfer_table(found: dx.analysis.Transfer) -> pd.DataFrame:
    rows = []
    for row in found.thresholds.to_dict("records"):
        fitted, tested = WAYS[row["fitted_on"], row["tested_on"], bool(row["held"])]
        rows.append(
            {
                "thresholds fitted": fitted,
                "tested": tested,
                "accuracy": f"{row['accuracy']:.1%}",
                "compute": f"{row['flops_fraction']:.1%}",
                "early-exit error": f"{row['too_early']:.1%}",
            }
        )
    return pd.DataFrame(rows).set_index("thresholds fitted")
