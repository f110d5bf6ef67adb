"""Controls and notices that pages share.

In: runs, numbers, ``st.session_state`` (perhaps filled from the address, so every value is settled before a widget gets
it). Out: what was chosen. Names of runs and texts of files are data: they pass through `plain` or `html.escape`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app.components.clickable import clickable as clickable_html
from dmpo_explore_app.services import cache

import dmpo_explore as dx
from dmpo_explore.policies.catalogue import POLICIES

DEFAULT_RUN = "demo"
RULES = {name: kind.rule for name, kind in POLICIES.items() if kind.deployable}
RUN_HELP = "A trained model and what its exits said about every image."
SPLIT_HELP = "**val** is for choosing thresholds, **test** for reading off what they are worth."
POLICY_HELP = "What decides whether an image leaves.  \n" + "  \n".join(
    f"**{name}**: {POLICIES[name].summary}." for name in RULES
)


def live() -> bool:
    """The one switch: the components that answer while one drags, or (``DMPO_EXPLORE_SLIDER=native``) Streamlit's own
    widgets, which also serve tests without a browser.
    """
    return os.environ.get("DMPO_EXPLORE_SLIDER", "live") != "native"


def clickable(body: str, key: str, on_picked: Callable[[str], None]) -> None:
    """HTML of `gallery`; where nothing can be clicked the widgets above it do the same."""
    if live():
        clickable_html(body, key, on_picked)
    else:
        st.html(body)


def title() -> None:
    """The page's title."""
    st.title("When may the model stop?", anchor=False)


def plain(text: object, longest: int = 200) -> str:
    """``text`` as Markdown that shows it literally, shortened."""
    short = str(text) if len(str(text)) <= longest else str(text)[: longest - 1] + "…"
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", short)


def notice(text: str) -> None:
    """Say what was not as asked and what is shown instead; ``text`` is Markdown."""
    st.warning(text, icon=":material/info:")


def problem(what: str, error: Exception) -> None:
    """Say that something cannot be shown, and why; the library's errors name the fix."""
    st.error(f"**{what}**  \n{plain(error, 500)}", icon=":material/error:")


def picture_source(run: dx.Run, split: str) -> Callable[[int], str] | None:
    """Row → data URI of its picture; None, and a word about it, if there are none."""
    try:
        return cache.thumbnails(run, split)
    except (OSError, ValueError) as error:
        text = f"The pictures of {plain(split)} are not here; their numbers are shown instead. "
        st.info(text + plain(error, 500), icon=":material/hide_image:")
        return None


def chart(figure: go.Figure, key: str, height: int, alt: str) -> None:
    """A figure of the library; style.css gives its words the page's colour."""
    figure.update_layout(height=height, margin={"t": 24, "r": 8})
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


def no_runs() -> None:
    """The page without any run: how to make one."""
    with st.container(border=True):
        st.subheader("No runs yet")
        st.markdown(
            "A run is a folder with what every exit of a model said about every image. Runs are looked for in the "
            "folder `runs` where the app was started, or in the one that `DMPO_EXPLORE_RUNS` names. Train a small one:"
        )
        st.code(
            "dmpo-explore fetch\n"
            "dmpo-explore train --data fashion-mnist --train-size 1000 --epochs 2 --name mine\n"
            "dmpo-explore record mine",
            language="sh",
        )


def settle(key: str, options: Sequence[str], default: str, what: str) -> str:
    """The value of widget ``key``, before it is drawn: one of ``options``, or else ``default``, which is said then."""
    value = st.session_state.get(key)
    if value in options:
        return str(value)
    if value is not None:
        notice(f"There is no {what} {plain(repr(value), 60)} here; showing {plain(default)}.")
    st.session_state[key] = default
    return default


def settle_run(names: Sequence[str]) -> str:
    """Which run; ``names`` are all there are, so that no name can lead elsewhere."""
    return settle("run", names, DEFAULT_RUN if DEFAULT_RUN in names else names[0], "run")


def settle_split(splits: Sequence[str]) -> str:
    """Which recorded split."""
    return settle("split", splits, "test" if "test" in splits else splits[0], "split")


def policies(run: dx.Run) -> list[str]:
    """Rules that this run can be asked: those that learn need its val record."""
    has_val = "val" in run.splits()
    return [name for name in RULES if has_val or not POLICIES[name].learns]


def settle_policy(offered: Sequence[str] = tuple(RULES)) -> str:
    """Which rule decides about leaving."""
    return settle("policy", offered, "confidence", "policy")


def choices(names: Sequence[str], splits: Sequence[str], offered: Sequence[str]) -> None:
    """The settled choices, in the row that is open."""
    st.selectbox("Run", names, key="run", width=150, help=RUN_HELP, persist_state="session")
    if splits:
        split_and_policy(splits, offered)


def split_and_policy(splits: Sequence[str], offered: Sequence[str]) -> None:
    """The two choices that pages share; kept when one goes to another page."""
    st.segmented_control("Split", splits, key="split", required=True, help=SPLIT_HELP, persist_state="session")
    st.selectbox("Leave by", offered, key="policy", width=150, help=POLICY_HELP, persist_state="session")


def headline(s: Mapping[str, Any]) -> None:
    """Four cards; ``s`` is `dx.summarise`'s."""
    with st.grid(2, min_column_width=150, gap="xsmall"):
        st.metric(
            "Accuracy",
            f"{s['accuracy']:.2%}",
            _points(-s["accuracy_drop"]),
            delta_description="points vs the last exit",
            border=True,
            help=f"Share of right answers. If every image ran to the last exit: {s['full_accuracy']:.2%}.",
        )
        st.metric(
            "Compute saved",
            f"{1 - s['flops_fraction']:.1%}",
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
            "Leave at exit 1",
            f"{s['exit_shares'][0]:.1%}",
            f"{round(s['exit_shares'][0] * s['images']):,} of {s['images']:,} images",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help="Share of images that the first exit answers.",
        )


def _points(difference: float) -> float | str:
    shown = round(100 * difference, 2)
    return f"{shown:+.2f}" if shown else 0
