"""How a run learned: its history → one picture of loss weights, losses and accuracy per exit, what matters marked.

In: `Run.history`. Out: `figures.history_figure` in which the second phase is shaded and the kept epoch has a line.

Ours: the second phase begins with the epoch in which the first exit weighs at least as much as the last; for the
schedule `switch` that is the switch itself.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from .trade_off import GREY, history_figure

SHADE = "rgba(0,114,178,0.10)"


def kept_epoch(history: pd.DataFrame) -> int:
    """The epoch whose weights the run keeps: the first with the largest area on val.

    Raises:
        ValueError: no epoch, no column ``area``, or columns that are not numbers.
    """
    if words := list(history.columns.difference(history.select_dtypes("number").columns)):
        raise ValueError(f"history has columns that are not numbers: {', '.join(map(str, words))}")
    if "area" not in history or history.empty:
        raise ValueError(f"history has no epoch with an area; its columns are {list(history.columns)}")
    return int(history["epoch"].iloc[int(history["area"].to_numpy().argmax())])


def second_phase(history: pd.DataFrame) -> int | None:
    """The epoch from which on the first exit weighs at least as much as the last; None without two phases."""
    n_exits = sum(str(column).startswith("lambda_") for column in history.columns)
    if n_exits < 2:
        return None
    early = history["lambda_1"] >= history[f"lambda_{n_exits}"]
    if early.all() or not early.any():
        return None
    return int(history["epoch"].iloc[int(early.to_numpy().argmax())])


def learning_figure(history: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Three panels over the epochs, a line per exit, with the second phase shaded and the kept epoch marked.

    Raises:
        ValueError: as `history_figure` and `kept_epoch`.
    """
    kept, early = kept_epoch(history), second_phase(history)
    figure, last = history_figure(history, template), int(history["epoch"].max())
    for column in (1, 2, 3):
        if early is not None:
            figure.add_vrect(
                x0=early - 0.5, x1=last + 0.5, fillcolor=SHADE, line_width=0, layer="below", row=1, col=column
            )
        figure.add_vline(x=kept, line={"color": GREY, "width": 1.5, "dash": "dot"}, row=1, col=column)
    return figure
