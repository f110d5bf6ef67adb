"""A search → plotly figures; never shown here.

In: the tables of a `SearchFront`, or hypervolumes of several ways to search. Out: figures in the style of `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from .style import DASHES, GREY, MODEL_COLOURS, new_figure


def front_figure(front: pd.DataFrame, epochs: pd.DataFrame, template: str | None = None) -> go.Figure:
    """The front as a staircase, and every other point that an epoch offered.

    Args:
        front: `SearchFront.table`: ``run``, ``trial``, ``epoch``, ``accuracy``, ``flops_fraction``, ``threshold``.
        epochs: `SearchFront.epochs`: lists of ``accuracy`` and ``flops_fraction`` per ``trial`` and ``epoch``.
    """
    figure = new_figure(template, "compute (share of the plain backbone)", "accuracy on val")
    where = "<br>compute %{x:.1%}<br>accuracy %{y:.2%}"
    points = epochs[["trial", "epoch", "accuracy", "flops_fraction"]].explode(["accuracy", "flops_fraction"])
    figure.add_scatter(
        x=points["flops_fraction"],
        y=points["accuracy"],
        customdata=points[["trial", "epoch"]],
        name="every epoch",
        mode="markers",
        marker={"color": GREY, "size": 5, "opacity": 0.35},
        hovertemplate="trial %{customdata[0]}, epoch %{customdata[1]}" + where + "<extra></extra>",
    )
    figure.add_scatter(
        x=front["flops_fraction"],
        y=front["accuracy"],
        customdata=front[["run", "threshold"]],
        name="front",
        mode="lines+markers",
        line={"color": MODEL_COLOURS[0], "width": 2, "shape": "hv"},
        marker={"size": 9},
        hovertemplate="%{customdata[0]}" + where + "<br>threshold %{customdata[1]:.4g}<extra></extra>",
    )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".0%")


def hypervolume_figure(curves: Mapping[str, pd.DataFrame], title: str, template: str | None = None) -> go.Figure:
    """Hypervolume over epochs spent, one line with its interval for each way to search.

    Args:
        curves: name → table of ``epochs``, ``mean``, ``low``, ``high``. title: of the vertical axis.
    """
    figure = new_figure(template, "epochs trained", title)
    for i, (name, table) in enumerate(curves.items()):
        colour = MODEL_COLOURS[i % len(MODEL_COLOURS)]
        x = table["epochs"].tolist()
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*table["high"], *table["low"][::-1]],
            fill="toself",
            fillcolor=colour,
            opacity=0.1,
            line={"width": 0},
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=x,
            y=table["mean"],
            name=name,
            mode="lines",
            line={"color": colour, "dash": DASHES[i % len(DASHES)], "width": 2},
            hovertemplate="%{fullData.name}<br>%{x} epochs: %{y:.4f}<extra></extra>",
        )
    return figure
