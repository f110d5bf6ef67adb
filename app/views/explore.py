"""Explore: move the threshold; see which images exit where, the compute that is saved and the accuracy.

In: runs (bundled and under the runs root). Out: `dx.Outcome`s, curves of `dx.trade_off`, images. While the
thumb moves the browser redraws alone; its release computes on arrays only: no model runs, torch is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, exit_explorer, run_picker, share, threshold_controls, widgets
from dmpo_explore_app.components.threshold_slider import supplies, threshold_slider
from dmpo_explore_app.services import exploration, mosaic_data, records, run_styles
from dmpo_explore_app.services.records import Stamp
from dmpo_explore_app.services.slider_data import counts, slider_data
from dmpo_explore_app.state import beside, choices, class_view, events, filters, opened_scores, operating_point, url
from dmpo_explore_app.state.redraw import Fragments

import dmpo_explore as dx

TITLE = "When may the model stop?"
KEYS = (*choices.KEYS, *operating_point.KEYS, beside.BESIDE, *filters.KEYS, *class_view.KEYS)
WORKBENCH = "workbench"  # keys of fragments: the whole page,
FOLLOWING, SLIDER, IMAGES = "following", "sliding", "showing"  # what is below the choices; two parts of it
FRAGMENTS = Fragments(controls=(WORKBENCH,), thresholds=(SLIDER, IMAGES), filters=(FOLLOWING,))
PROBLEM = "This run cannot be shown."


def page() -> None:
    """Take over the address, then draw the workbench."""
    names = opened_scores.names()
    if not names:
        widgets.title_row(TITLE)
        widgets.no_runs()
        return
    events.keep_choices(True)
    operating_point.follow(KEYS)
    workbench()


@st.fragment(key=WORKBENCH)
def workbench() -> None:
    """Title, choices, and what follows the slider; a choice redraws only this."""
    names = opened_scores.names()
    events.before_drawing()
    with messages.problems(PROBLEM):
        top = widgets.title_row(TITLE)
        point = run_picker.choose(names)
        if point is None:
            return
        others = records.comparable_runs(opened_scores.without_links(names), point.run, point.split)
        with top:
            chosen = run_picker.choose_beside(point.run.name, others)
            compute_help.popover(point)
            tables = exploration.curves(point, {name: others[name] for name in chosen})
            share.bar(point, exit_explorer.downloads(point), exploration.figures(point, tables))
        following(point.run, point.split, records.stamp(point.run, point.split), others, chosen)


@st.fragment(key=FOLLOWING)
def following(run: dx.Run, split: str, stamp: Stamp, others: Mapping[str, dx.Run], chosen: Sequence[str]) -> None:
    """Slider, filters, images by exit: another filter redraws all, a release of the slider all but the filters."""
    events.before_drawing()
    with messages.problems(PROBLEM):
        run_picker.check_unchanged(run, split, stamp)
        selected = filters.validate(record := records.record(run, split))
        point, amount, label = operating_point.current(run, split), filters.amount(), selected.class_number
        if live := widgets.live():
            supplies.code()
        numbers, shown = run_styles.places([run.name, *chosen]), {name: others[name] for name in chosen}
        sliding(run, split, stamp, shown, numbers, mosaic_data.tiles(point, amount, label))
        if live:
            pictures = mosaic_data.pictures(point, amount, label)
            supplies.supply("pictures", pictures["key"], pictures)
        exit_explorer.draw_filters(record, selected)
        showing(run, split, stamp, others, chosen)


@st.fragment(key=SLIDER)
def sliding(
    run: dx.Run, split: str, stamp: Stamp, shown: Mapping[str, dx.Run], numbers: list[int], tiles: mosaic_data.Tiles
) -> None:
    """The slider with its numbers, curves, mosaic and map; ``numbers``: `run_styles.places` of the curves."""
    with messages.problems(PROBLEM):
        run_picker.check_unchanged(run, split, stamp)
        events.before_drawing()
        point, selected = operating_point.current(run, split), filters.selection()
        tables, found = exploration.curves(point, shown), counts(point, selected.class_number)
        data = slider_data(
            point,
            tables,
            answered=events.last(),
            exit=selected.exit,
            image=selected.image,
            label=selected.class_number,
            source=threshold_controls.source(point),
            by_hand=threshold_controls.by_hand(point),
            found=found,
            numbers=numbers,
        )
        exits = mosaic_data.exits(point, found)
        data = mosaic_data.with_mosaic(data, point, tiles, exits["key"], selected)
        threshold_slider(point, data, exploration.figures(point, tables), exits, FRAGMENTS)


@st.fragment(key=IMAGES)
def showing(run: dx.Run, split: str, stamp: Stamp, others: Mapping[str, dx.Run], chosen: Sequence[str]) -> None:
    """Classes by exits and images by exit."""
    with messages.problems(PROBLEM):
        run_picker.check_unchanged(run, split, stamp)
        point, selected = operating_point.current(run, split), filters.selection()
        exit_explorer.draw(point, selected, FRAGMENTS.filters)
        operating_point.keep_compute(point)
        parts = operating_point.address(point) | beside.address(chosen, list(others))
        url.write(**parts, **filters.address(selected, point.record), **class_view.address())
        if widgets.live():
            supplies.answered(events.last())


page()
