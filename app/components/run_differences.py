"""How the runs of the page Decide differ: settings and training curves, read when their section is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.components.job_texts import counted
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import run_styles
from dmpo_explore_app.state import panels

import dmpo_explore as dx

MEANING = "what it is"  # no run can have a name with blanks
LEGEND = (
    "Accuracy on val. The area is the one under accuracy over compute; a ring marks the epoch that is kept, the one "
    "with the largest area."
)


def settings(runs: Sequence[dx.Run]) -> None:
    """The closed section, and in it a row per setting that differs."""
    with st.expander(
        "Settings in which they differ", icon=":material/tune:", key=panels.SETTINGS, on_change="rerun"
    ) as box:
        if not box.open:
            return
        found = dx.runs.config_differences(runs)
        if len(found):
            st.table(table(found), alt="Settings that are not the same in all of these runs.")
        st.caption("  \n".join(remarks(found, [run.name for run in runs])))


def table(found: pd.DataFrame) -> pd.DataFrame:
    """The differences as Markdown: by the option's label its value in every run, and its meaning."""
    values = {escape_markdown(name): [escape_markdown(value) for value in found[name]] for name in found}
    options = [dx.runs.COMPARED[name] for name in found.index]
    meaning = [escape_markdown(option.help) for option in options]
    return pd.DataFrame({**values, MEANING: meaning}, [escape_markdown(option.title) for option in options])


def remarks(found: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """How many options are equal, and which of these runs (``names``) have no config, as Markdown."""
    without = [f"{escape_markdown(name)} has no config." for name in names if name not in found]
    if len(names) - len(without) < 2:
        return [*without, "Two runs with a config are needed to compare their settings."]
    equal = sum(name not in found.index for name in dx.OPTIONS)
    if found.empty:
        return [f"Nothing differs: all {equal} options are equal.", *without]
    return [f"{equal} further {'option is' if equal == 1 else 'options are'} equal.", *without]


def learning(runs: Sequence[dx.Run]) -> None:
    """The closed section, and in it a line per run over the epochs."""
    with st.expander("How they learned", icon=":material/show_chart:", key=panels.LEARNED, on_change="rerun") as box:
        if not box.open:
            return
        found, without = histories(runs)
        if found:
            figure = dx.figures.histories_figure(found, run_styles.places(list(found)))
            widgets.panels(figure, "learned", 280, alternatives(figure, found))
            st.caption(LEGEND)
        if without:
            st.caption(f"No training curves: {', '.join(map(escape_markdown, without))}.")


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
            messages.problem(f"The training curves of {escape_markdown(run.name)} cannot be shown.", error)
        else:
            found[run.name] = history
    return found, without


def alternatives(figure: go.Figure, found: Mapping[str, pd.DataFrame]) -> list[str]:
    epochs = {name: counted(len(history), "epoch") for name, history in found.items()}
    texts = []
    for x, y in zip(figure.select_xaxes(), figure.select_yaxes(), strict=True):
        place = x.plotly_name.replace("axis", "")
        lines = [one for one in figure.data if (one.xaxis or "x") == place and one.mode != "markers"]
        ends = "; ".join(f"{one.name} {one.y[-1]:.1%} after {epochs[one.name]}" for one in lines)
        texts.append(f"{y.title.text[0].upper()}{y.title.text[1:]}, by epoch. {ends}.")
    return texts
