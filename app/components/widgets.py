"""Parts that pages share: titles, charts, numbers, a notice where something is missing. Names of runs
and texts of files are data: they pass through `escape_markdown` or `html.escape`."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app.components import fetch_offer
from dmpo_explore_app.messages import escape_markdown, with_code
from dmpo_explore_app.services import class_rows, downloads, own_runs, records, thumbnails
from plotly.colors import find_intermediate_color, hex_to_rgb

import dmpo_explore as dx

LIFT = 0.35  # of the way to white, of a line's colour on a dark page
PANEL = 230  # pixels, the least width of a panel in a row
GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "cross": "✚", "x": "✖", "triangle-up": "▲"}


def thumbnail_source(run: dx.Run, split: str) -> Callable[[int], str] | None:
    """Row → data URI of its image; None, with a notice, if there are no images."""
    try:
        return thumbnails.thumbnails(run, split)
    except (OSError, ValueError) as error:
        if own_runs.is_own(run):
            st.caption("No images were given: a tile stands for an image. The page Bring your own takes images too.")
            return None
        absent = isinstance(error, FileNotFoundError)  # else they are here, and not those that were recorded
        wanted = downloads.missing_images(records.record(run, split).meta.data, split) if absent else None
        if wanted is not None:
            fetch_offer.offer(wanted, f"The numbers of {split} are shown without its images.")
        else:
            text = f"The images of {escape_markdown(split)} are not here; their numbers are shown instead. "
            st.info(text + with_code(error), icon=":material/hide_image:")
        return None


def panels(figure: go.Figure, key: str, height: int, alts: Sequence[str]) -> None:
    """As `chart`, for panels in a row, each a figure of its own with its text: a narrow screen stacks them."""
    if named := legend(figure):
        st.html(named)
    with st.grid(len(alts), min_column_width=PANEL, gap="small", key=f"{key}_panels".replace(" ", "_")):
        for place, (panel, alt) in enumerate(zip(apart(figure), alts, strict=True)):
            chart(panel, f"{key} {place}", height, alt)


def apart(figure: go.Figure) -> list[go.Figure]:
    """The panels of a figure from left to right, each as a figure without a legend."""
    layout, found = figure.layout.to_plotly_json(), []
    rest = {name: value for name, value in layout.items() if "axis" not in name and name != "shapes"}
    for axis in sorted(figure.select_xaxes(), key=lambda axis: axis.domain):
        x, y = axis.plotly_name.replace("axis", ""), axis.anchor
        axes = {"xaxis": layout[axis.plotly_name], "yaxis": layout[y.replace("y", "yaxis", 1)]}
        whole = {name: {**one, "domain": (0, 1), "anchor": None} for name, one in axes.items()}
        shapes = [
            {**shape.to_plotly_json(), "xref": "x", "yref": "y domain"}
            for shape in figure.layout.shapes
            if shape.xref == x
        ]
        data = [{**one.to_plotly_json(), "xaxis": "x", "yaxis": "y"} for one in figure.data if (one.xaxis or "x") == x]
        found.append(go.Figure(data, {**rest, **whole, "shapes": shapes, "showlegend": False}))
    return found


def legend(figure: go.Figure) -> str:
    """The names that the figure's legend has, with their symbols and colours, as HTML; empty where there is one."""
    named = [one for one in figure.data if one.showlegend is not False]
    if len(named) < 2:
        return ""
    items = "".join(
        f'<li><i style="color: {seen(one.line.color)}" aria-hidden="true">{GLYPHS[one.marker.symbol]}</i> '
        f"{html.escape(one.name)}</li>"
        for one in named
    )
    return f'<ul class="dx-legend">{items}</ul>'


def seen(colour: str) -> str:
    """A colour of a line or a point; on a dark page lighter, as the darkest of the palette are lost there."""
    if st.context.theme.type != "dark":
        return colour
    rgb = f"rgb{hex_to_rgb(colour)}" if colour.startswith("#") else colour
    return find_intermediate_color(rgb, "rgb(255, 255, 255)", LIFT, colortype="rgb") if rgb.startswith("rgb(") else rgb


def chart(figure: go.Figure, key: str, height: int, alt: str) -> None:
    """A figure of `dx.figures`; style.css gives its words the page's colour, `seen` its lines theirs."""
    figure.update_layout(height=height, margin={"t": 24, "r": 8})
    if st.context.theme.type == "dark":
        figure = go.Figure(figure)  # what is shared of it stays as it is
        for trace in figure.data:
            for part in (trace[name] for name in ("line", "marker") if name in trace):
                if "color" in part and isinstance(part.color, str):
                    part.color = seen(part.color)
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
            "dmpo-explore fetch\ndmpo-explore train --data grocery --epochs 3 --name mine\ndmpo-explore record mine",
            language="sh",
        )


def class_choices(row: str, keys: tuple[str, str, str], orders: Mapping[str, str], *, searching: bool) -> None:
    """A search, an order of ``orders`` and a view; keys of their row and of each. What is found is shown whole."""
    find, order, view = keys
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key=row):
        st.text_input(
            "Find classes",
            key=find,
            placeholder="part of a name",
            max_chars=class_rows.LONGEST,
            width=160,
            persist_state="session",
        )
        st.selectbox("Order of classes", list(orders), key=order, width=160, persist_state="session")
        st.segmented_control(
            "Show",
            list(class_rows.VIEWS),
            format_func=class_rows.VIEWS.__getitem__,
            key=view,
            required=True,
            label_visibility="collapsed",
            disabled=searching,
            persist_state="session",
        )
