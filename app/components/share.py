"""Share what is on screen: as a link, as Python and a command that give the numbers of the page, as files that are made
when their button is pressed."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import access
from dmpo_explore_app.services import own_runs
from dmpo_explore_app.services.code_export import command_line, python_code
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import filters, panels

import dmpo_explore as dx

Tables = Mapping[str, Callable[[], pd.DataFrame]]
Figures = Mapping[str, Callable[[], go.Figure]]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")  # for kaleido
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes
_copy_link = st.components.v2.component(
    "dmpo_explore.copy_link",
    html='<button type="button">Copy link</button>',
    css="button { min-height: 2.5rem; padding: 0 0.75rem; font: inherit; color: var(--st-text-color); cursor: pointer; "
    "background: var(--st-background-color); border: 1px solid var(--st-border-color); "
    "border-radius: var(--st-button-radius); }",
    js=Path(__file__).with_name("copy_link.js").read_text(encoding="utf-8"),
)
SIZE = (1000, 560)  # of an exported figure, in pixels; PNG has twice as many


def bar(point: OperatingPoint, tables: Tables, figures: Figures) -> None:
    """The popover for one operating point, with functions that make its tables and figures."""
    run, split, policy = point.run, point.split, point.policy
    thresholds = {"thresholds": policy} if point.record.n_exits > 1 else {}
    texts = (lambda: python_code(run, split, policy)), (lambda: command_line(run, split, policy))
    own = own_runs.is_own(run)
    wholes: dict[str, Callable[[], str]] = {
        "report with images, for yourself": lambda: dx.web.page_html(run, policy, split=split, private=True),
        "page to publish": lambda: dx.web.page_html(run, policy, split=split),
    }
    besides = filters.not_in_address(point.record)
    popover(
        f"{run.name}-{split}", thresholds, tables, figures, *texts, link=not own, besides=besides,
        wholes={} if own else wholes,
    )  # fmt: skip


def popover(
    name: str,
    policies: Mapping[str, dx.Policy],
    tables: Tables,
    figures: Figures,
    python: Callable[[], str],
    command: Callable[[], str] | None = None,
    *,
    link: bool = True,
    besides: str = "",
    wholes: Mapping[str, Callable[[], str]] = MappingProxyType({}),
) -> None:
    """The popover of a page; its inside is made when it is opened. ``policies``, ``tables``, ``figures``, ``wholes``
    (pages of HTML): name → file or function that makes it; ``link``: whether the address shows what is on screen,
    ``besides`` what it lacks."""
    with st.popover("Share", icon=":material/ios_share:", key=panels.SHARE, on_change="rerun") as box:
        if not box.open:
            return
        first = dict([*figures.items()][: int(can_draw())])  # one picture; the others are files
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            if link:
                _copy_link(key=panels.COPY, width="content")
            for title, figure in first.items():
                button(name, title, "png", lambda figure=figure: figure_png(figure()))  # type: ignore[misc]
            for title, whole in wholes.items():
                button(name, title, "html", whole)
        if link:
            but = f", but for {besides}" if besides else ""
            st.caption(f"The address of this page is a link to what you see{but}.")
        _code(python(), command() if command else "")
        _files(name, policies, tables, figures, first)


def _code(python: str, command: str) -> None:
    st.markdown("**As Python**")
    st.code(access.without_paths(python), language="python", wrap_lines=True)
    if command:
        st.markdown("**As a command**")
        st.code(access.without_paths(command), language="sh", wrap_lines=True)
        st.caption("Both look for runs where the app does.")


def _files(name: str, policies: Mapping[str, dx.Policy], tables: Tables, figures: Figures, drawn: Figures) -> None:
    st.markdown("**As files**")
    with st.container(horizontal=True, gap="small"):
        for title, policy in policies.items():
            button(name, title, "json", policy_json(policy))
        for title, table in tables.items():
            button(name, title, "csv", lambda table=table: csv(table()))  # type: ignore[misc]
        for title, figure in figures.items():
            button(name, title, "html", lambda figure=figure: figure_html(figure()))  # type: ignore[misc]
            if can_draw() and title not in drawn:
                button(name, title, "png", lambda figure=figure: figure_png(figure()))  # type: ignore[misc]
    if figures and not can_draw():
        st.caption("For a PNG open the HTML file and press its camera.")


def policy_json(policy: dx.Policy) -> str:
    """The policy as JSON, as `dx.Policy.save` writes it; to other machines without the path of its data."""
    return access.without_paths(json.dumps(policy.to_dict(), indent=2, allow_nan=False)) + "\n"


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV in UTF-8; numbers in full, and texts that a spreadsheet would compute behind an apostrophe."""
    stream = io.StringIO()
    table.apply(_as_text).to_csv(stream, index=False, lineterminator="\n")
    return stream.getvalue().encode()


def _as_text(column: pd.Series) -> pd.Series:
    """A column of a table, in which no text is a formula."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    return column.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell)


def figure_html(figure: go.Figure) -> str:
    """A page of its own that needs no network; its camera saves a PNG."""
    config = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "png", "scale": 2}}
    return str(_for_paper(figure).to_html(include_plotlyjs=True, config=config))


def figure_png(figure: go.Figure) -> bytes:
    """The figure as PNG, by kaleido; see `can_draw`."""
    width, height = SIZE
    return bytes(_for_paper(figure).to_image("png", width=width, height=height, scale=2))


def can_draw() -> bool:
    """Whether kaleido and a browser that it draws with are here."""
    return find_spec("kaleido") is not None and any(map(shutil.which, BROWSERS))


def _for_paper(figure: go.Figure) -> go.Figure:
    """A copy in dark on white: the page's figures are transparent."""
    copy = go.Figure(figure)
    white = {"paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff", "font": {"color": "#10161f"}}
    return copy.update_layout(**white, width=None, height=None, margin={"l": 70, "r": 30, "t": 60, "b": 60})


def file_name(name: str, title: str, suffix: str) -> str:
    """A file name that is valid on every system."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", f"{Path(name).name}-{title}").strip("-.")[:120] + f".{suffix}"


def button(name: str, title: str, suffix: str, data: str | Callable[[], bytes | str]) -> None:
    """A button that downloads a file of this kind; ``data``: its contents, or a function that makes them."""
    mime = {"json": "application/json", "csv": "text/csv", "html": "text/html", "png": "image/png"}[suffix]
    label = f"{title[:1].upper()}{title[1:]} · {suffix.upper()}"
    icon = {"json": ":material/data_object:", "csv": ":material/table:"}.get(suffix, ":material/image:")
    key = f"share {title} {suffix}"
    st.download_button(label, data, file_name(name, title, suffix), mime, key, on_click="ignore", icon=icon)
