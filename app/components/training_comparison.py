"""Training curves of the runs of the page Decide, one click away.

In: runs. Out: a closed section of the page; its histories are read when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.components.job_texts import counted
from dmpo_explore_app.services import run_styles
from dmpo_explore_app.state import panels

import dmpo_explore as dx

TITLE = "How they learned"
LEGEND = (
    "Accuracy on val. The area is the one under accuracy over compute; a ring marks the epoch that is kept, the one "
    "with the largest area."
)


def section(runs: Sequence[dx.Run]) -> None:
    """The closed section, and in it a line per run over the epochs."""
    with st.expander(TITLE, icon=":material/show_chart:", key=panels.LEARNED, on_change="rerun") as box:
        if not box.open:
            return
        found, without = histories(runs)
        if found:
            figure = dx.figures.histories_figure(found, run_styles.places(list(found)))
            widgets.panels(figure, "learned", 280, alternatives(figure, found))
            st.caption(LEGEND)
        if without:
            st.caption(f"No training curves: {', '.join(map(messages.escape_markdown, without))}.")


def histories(runs: Sequence[dx.Run]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The history of each run that has one, and the names of the others; a damaged one is reported."""
    found: dict[str, pd.DataFrame] = {}
    without = []
    for run in runs:
        try:
            history = run.history()
            dx.figures.kept_epoch(history)  # raises for a table that cannot be drawn
        except FileNotFoundError:
            without.append(run.name)
        except (OSError, ValueError) as error:
            messages.problem(f"The training curves of {messages.escape_markdown(run.name)} cannot be shown.", error)
        else:
            found[run.name] = history
    return found, without


def alternatives(figure: go.Figure, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Of every panel, each run's last value."""
    epochs = {name: counted(len(history), "epoch") for name, history in found.items()}
    texts = []
    for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True):
        place = x.plotly_name.replace("axis", "")
        lines = [one for one in figure.data if (one.xaxis or "x") == place and one.mode != "markers"]
        ends = "; ".join(f"{one.name} {one.y[-1]:.1%} after {epochs[one.name]}" for one in lines)
        texts.append(f"{y.title.text[0].upper()}{y.title.text[1:]}, by epoch. {ends}.")
    return texts
