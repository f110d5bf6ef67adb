"""Explore: move the threshold; see which images exit where, the compute that is saved and the accuracy.

In: runs (bundled and under the runs root). Out: `dx.Outcome`s, curves of `dx.trade_off`, images. While the
thumb moves the browser redraws alone; its release computes on arrays only: no model runs, torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import compute_help, exit_explorer, run_picker, share, threshold_controls, widgets
from dmpo_explore_app.components.threshold_slider import threshold_slider
from dmpo_explore_app.components.threshold_slider.supplies import supplies
from dmpo_explore_app.services import exploration, mosaic, records
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.slider_data import counts, slider_data
from dmpo_explore_app.state import beside, choices, class_rows, events, filters, operating_point, own_scores, url

import dmpo_explore as dx

TITLE = "When may the model stop?"
KEYS = (*choices.KEYS, *operating_point.KEYS, beside.BESIDE, *filters.KEYS, *class_rows.KEYS)
WORKBENCH = "workbench"  # key of the fragment that draws the whole page
PROBLEM = "This run cannot be shown."


def page() -> None:
    """Take over the address, then draw the workbench."""
    names = own_scores.names()
    if not names:
        widgets.title_row(TITLE)
        widgets.no_runs()
        return
    operating_point.follow(KEYS)
    workbench(names)


@st.fragment(key=WORKBENCH)
def workbench(names: Sequence[str]) -> None:
    """Title, choices, and what follows the slider; a choice redraws only this."""
    events.before_drawing()
    with messages.problems(PROBLEM):
        top = widgets.title_row(TITLE)
        point = run_picker.choose(names)
        if point is None:
            return
        others = records.comparable_runs(names, point.run, point.split)
        with top:
            chosen = choose_beside(point.run.name, others)
            compute_help.popover(point)
            tables = exploration.curves(point, {name: others[name] for name in chosen})
            share.bar(point, downloads(point), exploration.figures(point, tables))
        following(point.run, point.split, others, chosen)


def choose_beside(name: str, others: Mapping[str, dx.Run]) -> list[str]:
    """Which other runs' curves are drawn too; in the row that is open."""
    chosen = beside.validate(name, list(others))
    if others:
        with st.popover("Add curves", icon=":material/stacked_line_chart:"):
            text = "Other runs whose record is of the same images, with the same backbone"
            options = {"format_func": messages.escape_markdown, "key": beside.key(name), "persist_state": "session"}
            st.pills(text, list(others), selection_mode="multi", **options)  # type: ignore[call-overload]
    return chosen


@st.fragment
def following(run: dx.Run, split: str, others: Mapping[str, dx.Run], chosen: Sequence[str]) -> None:
    """Slider, numbers and curves, then the images by exit; a release of the slider redraws only this."""
    number = events.drawing()
    with messages.problems(PROBLEM):
        point = operating_point.current(run, split)
        selected = filters.validate(point.record)
        tables = exploration.curves(point, {name: others[name] for name in chosen})
        label, amount = selected.label - 1 if selected.label else None, filters.amount()
        found = counts(point, label)
        data = slider_data(
            point,
            tables,
            seq=operating_point.last_event(),
            exit=selected.exit,
            image=selected.image,
            label=label,
            source=threshold_controls.source(point),
            by_hand=threshold_controls.by_hand(point),
            found=found,
        )
        pictures, exits = mosaic.pictures(point, amount, label), mosaic.exits(point, found)
        data = mosaic.with_mosaic(data, point, pictures, exits, amount, selected)
        threshold_slider(point, data, exploration.figures(point, tables), WORKBENCH)
        exit_explorer.draw(point, selected)
        operating_point.keep_compute(point)
        parts = operating_point.address(point) | beside.address(chosen, list(others))
        url.write(**parts, **filters.address(selected, point.record), **class_rows.address())
        if widgets.live():
            supplies(pictures, exits, number)


def downloads(point: OperatingPoint) -> dict[str, Callable[[], pd.DataFrame]]:
    """Name → function that makes the table."""
    rows = np.arange(point.record.n_images)
    return {
        "classes": partial(dx.analysis.class_metrics, point.outcome),
        "images": partial(exit_explorer.table, point.outcome, rows),
        "curve": partial(exploration.curve, point),
    }


page()
