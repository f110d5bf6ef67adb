"""Parts that pages share: titles, charts, numbers, clickable HTML, a notice where something is missing.

In: runs, numbers, figures. Out: elements of the page. Names of runs and texts of files are data: they pass through
`escape_markdown` or `html.escape`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app.components import fetch_offer
from dmpo_explore_app.components.clickable import clickable as clickable_html
from dmpo_explore_app.messages import escape_markdown, with_code
from dmpo_explore_app.services import downloads, own_runs, records, thumbnails
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx


def live() -> bool:
    """Whether the app's own components are used, or (``DMPO_EXPLORE_SLIDER=native``) Streamlit's widgets.

    The components redraw while a thumb is dragged; the widgets also serve tests without a browser.
    """
    return os.environ.get("DMPO_EXPLORE_SLIDER", "live") != "native"


def clickable(body: str, key: str, on_picked: Callable[[str], None]) -> None:
    """HTML of `gallery` that can be clicked; without the component, widgets above it do the same."""
    if live():
        clickable_html(body, key, on_picked)
    else:
        st.html(body)


def title_row(text: str, gap: Literal["xsmall", "small"] = "xsmall") -> DeltaGenerator:
    """The page's title, and the row beside it for popovers."""
    row = st.container(horizontal=True, vertical_alignment="center", gap=gap, key="title_row")
    row.title(text, anchor=False)
    return row


def thumbnail_source(run: dx.Run, split: str, most: int = thumbnails.THUMBNAIL) -> Callable[[int], str] | None:
    """Row → data URI of its image, of at most ``most`` pixels; None, with a notice, if there are no images."""
    try:
        return thumbnails.thumbnails(run, split, most)
    except (OSError, ValueError) as error:
        if own_runs.is_own(run):
            st.caption("No images were given: a tile stands for an image. The page Your own scores takes images too.")
            return None
        absent = isinstance(error, FileNotFoundError)  # else they are here, and not those that were recorded
        wanted = downloads.missing_images(records.record(run, split).meta.data, split) if absent else None
        if wanted is not None:
            fetch_offer.offer(wanted, f"The numbers of {split} are shown without its images.")
        else:
            text = f"The images of {escape_markdown(split)} are not here; their numbers are shown instead. "
            st.info(text + with_code(error), icon=":material/hide_image:")
        return None


def wide_chart(figure: go.Figure, key: str, height: int, alt: str) -> None:
    """As `chart`, for panels side by side; on a narrow screen they stand one below the other.

    Both are drawn, and style.css shows the one for the screen's width.
    """
    for layout, shown, high in (("wide", figure, height), ("stacked", stacked(figure), 60 + 2 * height)):
        with st.container(key=f"{layout}_{key}".replace(" ", "_")):
            chart(shown, f"{layout} {key}", high, alt)


def stacked(figure: go.Figure) -> go.Figure:
    """A copy of a figure of panels in a row, with the panels in a column."""
    copy = go.Figure(figure)
    axes = sorted(copy.select_xaxes(), key=lambda axis: axis.domain)
    part = 1 / len(axes)
    for place, axis in enumerate(axes):
        high = 1 - part * place
        axis.domain = (0, 1)
        copy.layout[axis.anchor.replace("y", "yaxis", 1)].domain = (high - 0.72 * part, high)
    return copy


def chart(figure: go.Figure, key: str, height: int, alt: str) -> None:
    """A figure of `dx.figures`; style.css gives its words the page's colour."""
    figure.update_layout(height=height, margin={"t": 24, "r": 8})
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


def no_runs() -> None:
    """A notice for a page without any run: how to make one."""
    with st.container(border=True):
        st.subheader("No runs yet")
        st.markdown(
            "A run is a folder with the outputs of every exit of a model for every image. Runs are looked for in the "
            "folder `runs` where the app was started, or in the one that `DMPO_EXPLORE_RUNS` names. Train a small one:"
        )
        st.code(
            "dmpo-explore fetch\n"
            "dmpo-explore train --data fashion-mnist --train-size 1000 --epochs 2 --name mine\n"
            "dmpo-explore record mine",
            language="sh",
        )


def headline(s: Mapping[str, Any]) -> None:
    """Four cards; ``s`` is `dx.summarise`'s."""
    with st.grid(2, min_column_width=150, gap="xsmall"):
        st.metric(
            "Accuracy",
            f"{s['accuracy']:.2%}",
            _points(-s["accuracy_drop"]),
            delta_description="points vs the last exit",
            border=True,
            help=f"Share of correct predictions. If every image ran to the last exit: {s['full_accuracy']:.2%}.",
        )
        st.metric(
            "Compute saved",
            f"{1 - s['flops_fraction']:z.1%}".replace("-", "−"),
            f"{s['flops_fraction']:.1%} of the backbone",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help="Mean over all images, everything that ran counted, relative to the plain backbone (see below).",
        )
        st.metric(
            "Mean exit",
            f"{s['mean_exit']:.2f}",
            f"of {len(s['exit_shares'])}",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help="Exits are counted from 1.",
        )
        st.metric(
            "Exit at exit 1",
            f"{s['exit_shares'][0]:.1%}",
            f"{round(s['exit_shares'][0] * s['images']):,} of {s['images']:,} images",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help="Share of images that exit at the first exit.",
        )


def _points(difference: float) -> float | str:
    shown = round(100 * difference, 2)
    return f"{shown:+.2f}" if shown else 0
