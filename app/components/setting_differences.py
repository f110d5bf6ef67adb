"""Settings in which the runs of the page Decide differ, one click away.

In: runs. Out: a closed section of the page; its table is made when it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.state import panels

import dmpo_explore as dx

TITLE = "Settings in which they differ"
MEANING = "what it is"  # no run can have a name with blanks


def section(runs: Sequence[dx.Run]) -> None:
    """The closed section, and in it a row per setting that differs."""
    with st.expander(TITLE, icon=":material/tune:", key=panels.SETTINGS, on_change="rerun") as box:
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
