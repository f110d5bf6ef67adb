"""Width and depth on the page Decide: what a budget should buy, the run or a narrower one."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services import width_depth
from dmpo_explore_app.services.comparison import Side, Wanted


def panel(sides: Sequence[Side], split: str, policy: str, wanted: Wanted) -> go.Figure | None:
    """The plane of a run and those made from it; nothing where no chosen run was made from another, or for time."""
    kin = width_depth.family(sides)
    if not kin or wanted.times is not None:
        return None
    st.header("Width and depth", anchor=False)
    found, limit = width_depth.plane(kin, split, policy), wanted.budget
    row = found.bought(limit)
    text = f"No run is as cheap as {limit:.3g} GFLOPs an image."
    if row is not None:
        name = messages.escape_markdown(str(row["run"]))
        text = (
            f"For at most {limit:.3g} GFLOPs an image take **{name}** with threshold {row['threshold']:.4g}: accuracy "
            f"{row['accuracy']:.2%} at {row['gflops']:.3g} GFLOPs."
        )
    st.markdown(text)
    figure = width_depth.figure(found, kin)
    stretches = "; ".join(f"{b.run} from {b.low:.3g} to {b.high:.3g} GFLOPs" for b in found.buys.itertuples())
    widgets.chart(figure, "compare width and depth", 380, f"Accuracy over GFLOPs. A budget buys {stretches}.")
    fitted = " and ".join(dict.fromkeys(side.point.run.fitting_split for side in kin))
    st.caption(
        f"The front and its thresholds are chosen on {fitted}, and read on {messages.escape_markdown(split)}. The band "
        "below the curves has the colour of the run that a budget buys."
    )
    return figure
