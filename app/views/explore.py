"""Explore: move the threshold; see which images exit where, the compute that is saved and the accuracy. While the thumb
moves the browser redraws alone; its release computes on arrays only: torch is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, exit_explorer, run_picker, share, threshold_controls, widgets
from dmpo_explore_app.components.threshold_slider import supplies, threshold_slider
from dmpo_explore_app.services import (
    chosen_image,
    comparison,
    exploration,
    image_maps,
    mosaic_data,
    records,
    run_styles,
)
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.records import Stamp
from dmpo_explore_app.services.slider_data import counts, slider_data
from dmpo_explore_app.state import beside, choices, class_view, events, filters, opened_scores, operating_point, url
from dmpo_explore_app.state.redraw import Fragments

import dmpo_explore as dx

KEYS = (*choices.KEYS, *operating_point.KEYS, *beside.KEYS, *filters.KEYS, *class_view.KEYS)
WORKBENCH = "workbench"  # keys of fragments: the whole page,
FOLLOWING, SLIDER, BELOW = "following", "sliding", "showing"  # what is below the choices; two parts of it
FRAGMENTS = Fragments((WORKBENCH,), (SLIDER, BELOW), (WORKBENCH,), (FOLLOWING,))
REFRESH = 2.0  # seconds between two looks at a map that is made
PROBLEM = "This run cannot be shown."


def page() -> None:
    if not opened_scores.names():
        widgets.no_runs()
        return
    events.keep_choices(True)
    operating_point.follow(KEYS)
    workbench()


@st.fragment(key=WORKBENCH)
def workbench() -> None:
    """One row of choices, and what follows the slider; a choice redraws only this."""
    events.before_drawing()
    names = opened_scores.names()
    beside_it = cache(partial(comparable, opened_scores.without_links(names)))  # asked three times
    with messages.problems(PROBLEM):
        point = run_picker.choose(names, partial(row, beside_it), partial(prepare, beside_it))
        if point is None:
            return
        run, split, others = point.run, point.split, beside_it(point.run, point.split)
        chosen, usual = beside.chosen(run.name, list(others)), records.of_like_compute(run, others, split)
        following(run, split, records.stamp(run, split), {name: others[name] for name in chosen}, usual)


def comparable(names: Sequence[str], run: dx.Run, split: str) -> Mapping[str, dx.Run]:
    """Runs whose curves can stand beside the run's: own scores of the same images, then other runs."""
    own = [other for other in opened_scores.opened() if split in other.splits() and other.name != run.name]
    same = {other.name: other for other in own if comparison.same_images(run, other, split)}
    return same | records.comparable_runs(names, run, split)


def prepare(others: Callable[[dx.Run, str], Mapping[str, dx.Run]], point: OperatingPoint) -> None:
    filters.validate(point.record)
    runs = others(point.run, point.split)
    beside.validate(point.run.name, list(runs), records.of_like_compute(point.run, runs, point.split))


def row(others: Callable[[dx.Run, str], Mapping[str, dx.Run]], point: OperatingPoint) -> None:
    """The rest of the row of choices: targets, filters, curves, explanation, sharing."""
    threshold_controls.controls(point)
    exit_explorer.draw_filters(point.record)
    runs = others(point.run, point.split)
    run_picker.choose_beside(point.run.name, runs, point.record.n_exits > 1)
    compute_help.popover(point)
    tables = exploration.curves(point, {name: runs[name] for name in beside.chosen(point.run.name, list(runs))})
    share.bar(point, exit_explorer.downloads(point), exploration.figures(point, tables, beside.oracle()))


@st.fragment(key=FOLLOWING)
def following(run: dx.Run, split: str, stamp: Stamp, shown: Mapping[str, dx.Run], usual: Sequence[str]) -> None:
    """Slider, tabs and what they show: another tab or image redraws all of it, a release of the slider two parts.
    ``shown``: runs whose curves stand beside; ``usual``: names of those that would unless others were chosen."""
    events.before_drawing()
    with messages.problems(PROBLEM):
        run_picker.check_unchanged(run, split, stamp)
        selected = filters.current(records.record(run, split))
        point, amount, label = operating_point.current(run, split), filters.amount(), selected.class_number
        supplies.code()
        numbers = run_styles.places([run.name, *shown])
        if remarks := exploration.remarks(point, shown):
            st.caption(messages.escape_markdown(" ".join(remarks), 400))
        sliding(run, split, stamp, shown, numbers, mosaic_data.tiles(point, amount, label))
        pictures = mosaic_data.pictures(point, amount, label)
        supplies.supply("pictures", pictures["key"], pictures)
        if selected.view == "map" and image_maps.key(point):
            neighbours(point)
        showing(run, split, stamp, list(shown), usual)


def neighbours(point: OperatingPoint) -> None:
    """The map by t-SNE; while it is made, a look every few seconds."""
    try:
        found = image_maps.found(point)
    except Exception as error:  # of memory, or of a package that it uses: the rest of the page stays
        messages.problem("The map cannot be made.", error)
        return
    if found is not None:
        supplies.supply("neighbours", found["key"], found)
    else:
        st.fragment(wait_for_neighbours, run_every=REFRESH)(point)


def wait_for_neighbours(point: OperatingPoint) -> None:
    """Draw the page again once the map is there."""
    if image_maps.is_made(point):
        st.rerun()


@st.fragment(key=SLIDER)
def sliding(
    run: dx.Run, split: str, stamp: Stamp, shown: Mapping[str, dx.Run], numbers: list[int], tiles: mosaic_data.Tiles
) -> None:
    """The slider with its numbers, tabs, mosaic, curves and drawer; ``numbers``: `run_styles.places` of the curves."""
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
            oracle=beside.oracle(),
            found=found,
            numbers=numbers,
        )
        exits, facts = mosaic_data.exits(point, found), chosen_image.facts(point, selected)
        data = mosaic_data.with_mosaic(data, point, tiles, exits["key"], selected) | {
            "drawer": facts,
            "neighbours": image_maps.key(point),
        }
        threshold_slider(data, exits, FRAGMENTS)
        if facts is not None:
            exit_explorer.draw_chosen(point, facts, selected)


@st.fragment(key=BELOW)
def showing(run: dx.Run, split: str, stamp: Stamp, chosen: Sequence[str], usual: Sequence[str]) -> None:
    with messages.problems(PROBLEM):
        run_picker.check_unchanged(run, split, stamp)
        point, selected = operating_point.current(run, split), filters.selection()
        exit_explorer.draw(point, selected, FRAGMENTS)
        operating_point.keep_compute(point)
        parts = operating_point.address(point) | beside.address(chosen, usual)
        url.write(**parts, **filters.address(selected, point.record), **class_view.address())
        supplies.answered(events.last())


page()
