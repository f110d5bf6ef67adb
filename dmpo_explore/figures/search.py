"""Results of a hyperparameter search: its Pareto front, and hypervolume over epochs trained.

In: tables of a `SearchFront`, or hypervolumes of several search strategies. Out: `plotly.graph_objects.Figure`, never
shown here.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from .style import COMPUTE, GREY, MODEL_COLOURS, add_band, model_line, new_figure


def front_figure(front: pd.DataFrame, epochs: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Pareto front of accuracy and compute as a staircase, with every other point that an epoch reached.

    Args:
        front: `SearchFront.table`: ``run``, ``trial``, ``epoch``, ``accuracy``, ``flops_fraction``, ``threshold``.
        epochs: `SearchFront.epochs`: lists of ``accuracy`` and ``flops_fraction`` per ``trial`` and ``epoch``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> front = pd.DataFrame({"run": ["a"], "accuracy": [0.8], "flops_fraction": [0.3], "threshold": [0.7]})
        >>> lists = {"accuracy": [[0.7, 0.8]], "flops_fraction": [[0.2, 0.3]]}
        >>> epochs = pd.DataFrame({"trial": [0], "epoch": [1], **lists})
        >>> [len(trace.x) for trace in dx.figures.front_figure(front, epochs).data]
        [2, 1]
    """
    figure = new_figure(template, COMPUTE, "accuracy on val")
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
        mode="lines+markers" if front["accuracy"].is_monotonic_increasing else "markers",  # not of three goals
        line={"color": MODEL_COLOURS[0], "width": 2, "shape": "hv"},
        marker={"size": 9},
        hovertemplate="%{customdata[0]}" + where + "<br>threshold %{customdata[1]:.4g}<extra></extra>",
    )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".0%")


def hypervolume_figure(curves: Mapping[str, pd.DataFrame], title: str, template: str | None = None) -> go.Figure:
    """Hypervolume over epochs trained, one line with its interval for each search strategy.

    Args:
        curves: name → table of ``epochs``, ``mean``, ``low``, ``high``. title: of the vertical axis.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"epochs": [4, 8], "mean": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]})
        >>> dx.figures.hypervolume_figure({"random": table}, "hypervolume").data[1].name
        'random'
    """
    figure = new_figure(template, "epochs trained", title)
    for i, (name, table) in enumerate(curves.items()):
        x = table["epochs"].tolist()
        add_band(figure, x, table["low"], table["high"], i)
        figure.add_scatter(
            x=x,
            y=table["mean"],
            name=name,
            mode="lines",
            line=model_line(i, 2),
            hovertemplate="%{fullData.name}<br>%{x} epochs: %{y:.4f}<extra></extra>",
        )
    return figure
