"""What a run and the chosen target do on images of another place, and what fitting again there repairs."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.components import widgets
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import records, run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.services.records import Stamp
from dmpo_explore_app.state import targets

import dmpo_explore as dx

HEIGHT = 340
WAYS = {  # as `dx.analysis.transfer` has them: fitted on, tested on, held
    ("home", "home", False): ("here", "here"),
    ("home", "away", False): ("here", "there"),
    ("home", "away", True): ("here, exit shares held", "there"),
    ("away", "away", False): ("there", "there"),
}


def draw(point: OperatingPoint) -> None:
    run, target = point.run, targets.chosen() or dx.fitting.DEFAULT_TARGET
    home = run_facts.data(run.config.data.name)
    for number, place in enumerate(dx.analysis.transfer_places(run)):
        away = run_facts.data(place)
        away = f"{away} (there)" if away == home else away
        with st.container(key=f"transfer {number}"):
            stamps = tuple(records.stamp(run, split) for split in run.splits())
            found = _found(str(run.path), stamps, place, point.policy.name, target)
            st.markdown(_story(found, home, away))
            figure = dx.figures.transfer_figure(found, home, away)
            widgets.chart(figure, f"transfer figure {number}", HEIGHT, _alt(found, away))
            st.table(_table(found))


@st.cache_resource(max_entries=64, show_spinner="Fitting there too …")
def _found(path: str, stamps: tuple[Stamp, ...], place: str, policy: str, target: dx.Target) -> dx.analysis.Transfer:
    del stamps  # records that changed
    return dx.analysis.transfer_run(dx.load_run(path), place, [target], policy)


def _story(found: dx.analysis.Transfer, home: str, away: str) -> str:
    frozen, again = found.thresholds.iloc[1], found.thresholds.iloc[-1]
    first, last = (100 * found.exits["lost"].iloc[k] for k in (0, -1))
    return (
        f"The model learned {escape_markdown(home)}; these are its answers on {escape_markdown(away)}. Exit 1 loses "
        f"**{first:.0f} points** there, the last exit {last:.0f}. Thresholds fitted here for "
        f"*{escape_markdown(frozen['target'])}* used {frozen['fitted_flops']:.0%} of the compute, and there use "
        f"**{frozen['flops_fraction']:.0%}**; fitted again there, {again['flops_fraction']:.0%}, with "
        f"{again['accuracy']:.0%} correct in place of {frozen['accuracy']:.0%}."
    )


def _alt(found: dx.analysis.Transfer, place: str) -> str:
    rows = found.exits
    both = f"from {rows['home'].iloc[0]:.0%} to {rows['home'].iloc[-1]:.0%} here"
    return f"Accuracy of every exit: {both}, {rows['away'].iloc[0]:.0%} to {rows['away'].iloc[-1]:.0%} on {place}."


def _table(found: dx.analysis.Transfer) -> pd.DataFrame:
    rows = []
    for row in found.thresholds.to_dict("records"):
        fitted, tested = WAYS[row["fitted_on"], row["tested_on"], bool(row["held"])]
        rows.append(
            {
                "thresholds fitted": fitted,
                "tested": tested,
                "accuracy": f"{row['accuracy']:.1%}",
                "compute": f"{row['flops_fraction']:.1%}",
                "early-exit error": f"{row['too_early']:.1%}",
            }
        )
    return pd.DataFrame(rows).set_index("thresholds fitted")
