"""Results of a study over several arms and seeds: differences of accuracy.

In: a table of these. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from .style import (
    COMPUTE,
    GREY,
    MODEL_COLOURS,
    new_figure,
)


def gains_figure(gains: pd.DataFrame, template: str | None = None) -> go.Figure:
    """Differences of accuracy between arms, a comparison per line: mean and 95 % interval, every seed as a cross.

    A comparison with one seed is a diamond, without a cross.

    Args:
        gains: ``question``, ``points``, ``low``, ``high`` (per cent of the images), ``seeds`` (text, a number each),
            and optionally ``over``: what the interval is over, by default ``images``.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> row = {"question": "gain of bypass", "points": 1.0, "low": 0.4, "high": 1.7, "seeds": "+0.9 +1.1"}
        >>> mean, seeds = dx.figures.gains_figure(pd.DataFrame([row])).data
        >>> mean.name, list(seeds.x)
        ('mean of the seeds, 95 % interval over images', [0.9, 1.1])
    """
    figure = new_figure(template, "points of test accuracy ahead", "")
    rows, hover = gains.iloc[::-1], "%{y}<br>%{x:+.2f} [%{customdata[0]:+.2f}, %{customdata[1]:+.2f}]"
    several = rows["seeds"].astype(str).str.contains(" ")
    over = rows["over"] if "over" in rows else pd.Series("images", rows.index)
    names = several.map({True: "mean of the seeds", False: "one training"}) + ", 95 % interval over " + over
    for name in names.unique():
        some = rows[names == name]
        figure.add_scatter(
            x=some["points"],
            y=some["question"],
            error_x={"array": some["high"] - some["points"], "arrayminus": some["points"] - some["low"]},
            mode="markers",
            marker={"size": 9, "color": MODEL_COLOURS[0], "symbol": "diamond" if name.startswith("one") else "circle"},
            name=name,
            showlegend=True,  # also where it is the only one
            customdata=some[["low", "high", "seeds"]],
            hovertemplate=hover + "<br>seeds %{customdata[2]}<extra></extra>",
        )
    if seeds := [
        (float(value), row.question) for row in rows[several].itertuples() for value in str(row.seeds).split()
    ]:
        x, y = zip(*seeds, strict=True)
        marker = {"symbol": "x-thin-open", "color": GREY, "size": 8}
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name="one seed", hoverinfo="skip")
    figure.update_yaxes(categoryorder="array", categoryarray=list(rows["question"]))
    return figure.add_vline(x=0, line={"color": GREY, "width": 1})


# Results of a hyperparameter search: its Pareto front.


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
