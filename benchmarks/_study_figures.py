"""The study's pictures, from what is kept of its runs: one function a picture.

In: tables that `report` has read. Out: plotly figures; `report` writes them as PNG.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from grids import REPORTED
from plotly.subplots import make_subplots

from dmpo_explore.figures import DASHES, GREY, MODEL_COLOURS, SYMBOLS, exit_colours, new_figure, styled


def gains_figure(gains: pd.DataFrame) -> go.Figure:
    """Points gained, a comparison per line: mean and 95 % interval over images, every seed as a cross."""
    figure = new_figure(None, "points of test accuracy", "")
    rows = gains.iloc[::-1]
    figure.add_scatter(
        x=rows["points"],
        y=rows["question"],
        error_x={"type": "data", "array": rows["high"] - rows["points"], "arrayminus": rows["points"] - rows["low"]},
        mode="markers",
        marker={"size": 9, "color": MODEL_COLOURS[0]},
        name="mean of the seeds, 95 % interval",
    )
    seeds = [(float(value), row.question) for row in rows.itertuples() for value in str(row.seeds).split()]
    x, y = zip(*seeds, strict=True)
    figure.add_scatter(x=x, y=y, mode="markers", marker={"symbol": "x-thin-open", "color": GREY}, name="one seed")
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    return figure.update_layout(legend={"orientation": "h", "y": 1.1}, margin={"l": 330, "t": 30, "r": 20, "b": 50})


def budgets_figure(arms: pd.DataFrame) -> go.Figure:
    """Accuracy at 30, 50, 70 and 100 % of compute, a line per arm; arms with one exit as a level line."""
    figure = new_figure(None, "compute, at most (share of the plain backbone)", "test accuracy")
    columns = [f"accuracy_{budget:.0%}" for budget in REPORTED]
    for i, (arm, row) in enumerate(arms.iterrows()):
        line = {"color": MODEL_COLOURS[i % len(MODEL_COLOURS)], "dash": DASHES[i % len(DASHES)], "width": 2}
        single = row["exits"] == 1
        y = [row["last_exit"]] * len(REPORTED) if single else row.reindex(columns)
        symbol = SYMBOLS[i % len(SYMBOLS)]
        mode = "lines" if single else "lines+markers"
        figure.add_scatter(x=REPORTED, y=y, name=str(arm), mode=mode, line=line, marker={"symbol": symbol, "size": 8})
    return figure.update_xaxes(tickformat=".0%", tickvals=REPORTED).update_yaxes(tickformat=".0%")


def gradients_figure(arms: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Cosine between an early exit's gradient and the last one's over epochs, a panel per arm, a line per exit."""
    figure = make_subplots(1, len(arms), shared_yaxes=True, subplot_titles=list(arms), horizontal_spacing=0.02)
    for column, table in enumerate(arms.values(), start=1):
        lines = table.groupby(["exit", "epoch"])["cosine"].mean().unstack("epoch")
        for (exit, row), colour in zip(lines.iterrows(), exit_colours(len(lines)), strict=True):
            symbol = SYMBOLS[(int(str(exit)) - 1) % len(SYMBOLS)]
            look = {"line": {"color": colour}, "marker": {"symbol": symbol}, "legendgroup": f"exit {exit}"}
            line = go.Scatter(x=row.index, y=row, name=f"exit {exit}", showlegend=column == 1, **look)
            figure.add_trace(line, 1, column)
        figure.update_xaxes(title="epoch", dtick=1, row=1, col=column)
        figure.add_hline(y=0, line={"color": GREY, "width": 1}, row=1, col=column)
    figure.update_yaxes(title="cosine with the last exit's gradient", row=1, col=1)
    return styled(figure)


PANELS = {
    "kept": "trunk, CKA with the untuned backbone",
    "low_level_trunk": "trunk, patch brightness (R²)",
    "label_trunk": "trunk, label (accuracy)",
    "label_read": "what the predictor reads, label",
}


def stages_figure(arms: Mapping[str, pd.DataFrame]) -> go.Figure:
    """What stages know, block by block, mean over seeds: a panel per number of `PANELS`, a line per arm."""
    figure = make_subplots(2, 2, subplot_titles=list(PANELS.values()), vertical_spacing=0.16, horizontal_spacing=0.07)
    for i, (arm, table) in enumerate(arms.items()):
        means = table.groupby("block").mean(numeric_only=True)
        line = {"color": MODEL_COLOURS[i % len(MODEL_COLOURS)], "dash": DASHES[i % len(DASHES)]}
        for panel, number in enumerate(PANELS):
            shown = {"legendgroup": arm, "showlegend": panel == 0, "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)]}}
            trace = go.Scatter(x=means.index, y=means[number], name=arm, line=line, **shown)
            figure.add_trace(trace, panel // 2 + 1, panel % 2 + 1)
    figure.update_xaxes(title="block", row=2)
    return styled(figure)
