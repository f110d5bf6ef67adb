"""Two or more models side by side: accuracy of each class, differences with intervals, operating points.

In: tables of accuracies and of differences with their intervals. Out: `plotly.graph_objects.Figure`, never shown here:
one colour and one symbol a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import GREY, WHITE, add_band, as_text, given_labels, model_colour, model_line, new_figure, panels, symbol

if TYPE_CHECKING:
    from ..analysis.shift import Transfer

LANES = 0.7  # of the room between two classes: for the marks of all models
GFLOPS_AXIS: dict[str, Any] = {"type": "log", "tickformat": "~g", "dtick": "D2"}  # ticks at 1, 2, 5, 10 …


def class_accuracy_figure(
    accuracy: pd.DataFrame, colours: Sequence[int], template: str | None = None, labels: Sequence[str] | None = None
) -> go.Figure:
    """Accuracy on each class, one row a class and one mark a model, each in a lane of its own, joined by a line.

    Args:
        accuracy: index classes (from top to bottom), one column a model, fractions.
        colours: number of each model's colour and symbol in the palette.
        labels: shorter names for the axis, which differ (`unique_labels`); None: those of the index.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"a": [0.5, 0.9], "b": [0.8, 0.7]}, index=["cat", "dog"])
        >>> figure = dx.figures.class_accuracy_figure(table, [0, 1])
        >>> [trace.name for trace in figure.data if trace.mode == "markers"]
        ['a', 'b']
    """
    figure = new_figure(template, "accuracy", "")
    whole = [as_text(name) for name in accuracy.index]
    names = given_labels(list(accuracy.index) if labels is None else labels)
    rows = np.arange(len(names))
    for row, (low, high) in enumerate(zip(accuracy.min(axis=1), accuracy.max(axis=1), strict=True)):
        line = {"color": GREY, "width": 2}
        figure.add_scatter(x=[low, high], y=[row, row], mode="lines", line=line, showlegend=False, hoverinfo="skip")
    lanes = LANES * (np.arange(len(colours)) - (len(colours) - 1) / 2) / len(colours)
    for column, i, lane in zip(accuracy.columns, colours, lanes, strict=True):
        figure.add_scatter(
            x=accuracy[column],
            y=rows + lane,
            text=whole,
            name=str(column),
            mode="markers",
            marker={"color": model_colour(i), "symbol": symbol(i), "size": 9},
            hovertemplate="%{text}<br>%{fullData.name}: %{x:.1%}<extra></extra>",
        )
    figure.update_xaxes(tickformat=".0%")
    return figure.update_yaxes(tickvals=rows, ticktext=names, range=[len(names) - 0.5, -0.5], zeroline=False)


def accuracy_difference_figure(
    differences: Mapping[str, pd.DataFrame],
    colours: Sequence[int],
    against: str,
    template: str | None = None,
    gflops: bool = False,
) -> go.Figure:
    """Difference of accuracy to a reference model at equal compute budgets, with a 95 % interval as a band.

    Args:
        differences: model → table of ``budget``, ``difference``, ``low``, ``high`` (fractions).
        colours: number of each model's colour and symbol in the palette. against: name of the reference.
        gflops: budgets are GFLOPs, on a logarithmic axis, for models of different backbones.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> table = pd.DataFrame({"budget": [0.3], "difference": [0.02], "low": [0.01], "high": [0.03]})
        >>> figure = dx.figures.accuracy_difference_figure({"demo": table}, [0], "plain")
        >>> figure.data[-1].y.tolist(), figure.layout.yaxis.title.text
        ([2.0], 'points above plain')
    """
    unit, place = ("GFLOPs", "%{x:.3g} GFLOPs") if gflops else ("% of the plain backbone", "%{x:.0%}")
    figure = new_figure(template, f"compute budget ({unit})", f"points above {against}")
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    for (name, table), i in zip(differences.items(), colours, strict=True):
        x, low, high = table["budget"].tolist(), *(100 * table[end] for end in ("low", "high"))
        add_band(figure, x, low, high, i)
        figure.add_scatter(
            x=x,
            y=100 * table["difference"],
            name=name,
            customdata=100 * table[["low", "high"]],
            mode="lines+markers",
            line=model_line(i, 2),
            marker={"symbol": symbol(i), "size": 5},
            hovertemplate="%{fullData.name} at " + place + ": %{y:+.2f} points"
            "<br>95%: %{customdata[0]:+.2f} to %{customdata[1]:+.2f}<extra></extra>",
        )
    return figure.update_xaxes(**(GFLOPS_AXIS if gflops else {"tickformat": ".0%"})).update_yaxes(
        tickformat="+.2~f", labelalias={"+0": "0"}
    )


def in_gflops(figure: go.Figure, gflops: Mapping[str, float], unit: str = "GFLOPs") -> go.Figure:
    """Turn a `trade_off_figure`'s axis of FLOPs fractions into one of GFLOPs, logarithmic; the figure is returned.

    Args:
        gflops: name → GFLOPs of the plain backbone, to which that model's fractions are relative. Other traces stay.
        unit: another one of what the fractions are of, such as ms.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.trade_off_figure({}, singles={"vit": (1.0, 0.91), "cnn": (1.0, 0.9)})
        >>> figure = dx.figures.in_gflops(figure, {"vit": 1.13, "cnn": 0.06})
        >>> [list(trace.x) for trace in figure.data], figure.layout.xaxis.type
        ([[1.13], [0.06]], 'log')
    """
    for trace in figure.data:
        if trace.name in gflops:
            trace.x = [float(x) * gflops[trace.name] for x in trace.x]
            trace.hovertemplate = trace.hovertemplate.replace("compute %{x:.1%}", f"%{{x:.3g}} {unit}")
    return figure.update_xaxes(**GFLOPS_AXIS, title=f"{unit} (mean of an image, logarithmic)")


def mark_limits(figure: go.Figure, most: float | None = None, least: float | None = None, words: str = "") -> go.Figure:
    """Grey out what is beyond a budget on an `in_gflops` figure, and draw the least accuracy that is allowed.

    Args:
        most: the budget, in the axis's unit. least: an accuracy, as a fraction. words: for its line.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.in_gflops(dx.figures.trade_off_figure({}, singles={"vit": (1.0, 0.91)}), {"vit": 1.1})
        >>> [shape.type for shape in dx.figures.mark_limits(figure, 0.5, 0.9).layout.shapes]
        ['rect', 'line', 'line']
    """
    seen = [float(x) for trace in figure.data for x in trace.x]
    seen += [] if most is None else [most]
    low, high = min(seen) / 1.1, max(seen) * 1.1
    line = {"color": GREY, "width": 2}
    if most is not None:
        figure.add_shape(
            type="rect", x0=most, x1=high, y0=0, y1=1, yref="paper", fillcolor=GREY, opacity=0.15, line={"width": 0}
        )
        figure.add_shape(type="line", x0=most, x1=most, y0=0, y1=1, yref="paper", line=line)
    if least is not None:
        figure.add_shape(type="line", x0=0, x1=1, xref="paper", y0=least, y1=least, line=line | {"dash": "dash"})
        figure.add_annotation(text=words, x=0, xref="paper", y=least, xanchor="left", yanchor="bottom", showarrow=False)
    return figure.update_xaxes(range=[math.log10(low), math.log10(high)])


def mark_points(figure: go.Figure, points: Mapping[str, tuple[float, float]], colours: Sequence[int]) -> go.Figure:
    """Add the operating points of several models to a `trade_off_figure`, which is returned.

    Args:
        points: name → (flops_fraction, accuracy). colours: number of each model's colour in the palette.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.mark_points(dx.figures.trade_off_figure({}), {"demo": (0.4, 0.7)}, [0])
        >>> figure.data[0].x, figure.data[0].y
        ((0.4,), (0.7,))
    """
    for (name, (flops, accuracy)), i in zip(points.items(), colours, strict=True):
        figure.add_scatter(
            x=[flops],
            y=[accuracy],
            name=name,
            mode="markers",
            marker={"size": 13, "color": model_colour(i), "line": {"width": 3, "color": WHITE}},
            showlegend=False,
            zorder=100,
            hovertemplate="%{fullData.name}<br>compute %{x:.1%}<br>accuracy %{y:.2%}<extra></extra>",
        )
    return figure


# A model and its thresholds in another place: what every exit loses there, what thresholds should use and did use.
#
# In: a `dx.analysis.Transfer`. Out: `plotly.graph_objects.Figure`, never shown here.

_EXPECTED = "expected"


def transfer_figure(found: Transfer, home: str, away: str, template: str | None = None) -> go.Figure:
    """Accuracy of every exit in both places with 95 % intervals; beside it, what the first target should use and did.

    Args:
        found: of `dx.analysis.transfer`, with at least one target. home, away: names of the two places.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> here = dx.analysis.HeldOut(run.record("calibration"), run.record("test"))
        >>> found = dx.analysis.transfer(here, here, [dx.Target.flops(0.4)])
        >>> [trace.name for trace in dx.figures.transfer_figure(found, "this shop", "the other").data][:3]
        ['this shop', 'the other', 'expected']
    """
    target = found.thresholds["target"].iloc[0]
    figure = panels(template, 1, 2, ["accuracy of every exit on test", f"thresholds for {target}"])
    for i, (place, name) in enumerate((("home", home), ("away", away))):
        rows, mean = found.exits, found.exits[place]
        figure.add_scatter(
            x=rows["exit"], y=mean, name=as_text(name), mode="lines+markers", line=model_line(i, 2), row=1, col=1,
            error_y={"array": rows[f"{place}_high"] - mean, "arrayminus": mean - rows[f"{place}_low"], "thickness": 1},
            marker={"size": 7, "symbol": symbol(i)},
            hovertemplate="%{fullData.name}<br>exit %{x}: %{y:.1%}<extra></extra>",
        )  # fmt: skip
    rows = found.thresholds[found.thresholds["target"] == target].to_dict("records")
    points = [(_EXPECTED, rows[0]["fitted_flops"], rows[0]["fitted_accuracy"])]
    said = {
        ("home", "home", False): f"used in {home}",
        ("home", "away", False): f"used in {away}",
        ("home", "away", True): f"{away}, exit shares held",
        ("away", "away", False): f"{away}, fitted again there",
    }
    for row in rows:
        name = said[row["fitted_on"], row["tested_on"], bool(row["held"])]
        points.append((name, row["flops_fraction"], row["accuracy"]))
    for i, (name, compute, accuracy) in enumerate(points):
        colour = GREY if name == _EXPECTED else model_colour(0 if i == 1 else 1)
        figure.add_scatter(
            x=[compute], y=[accuracy], name=as_text(name), mode="markers", row=1, col=2,
            marker={"size": 12, "symbol": symbol(i), "color": colour},
            hovertemplate="%{fullData.name}<br>accuracy %{y:.1%}<br>compute %{x:.1%}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="exit", dtick=1, col=1).update_xaxes(
        title="compute", tickformat=".0%", rangemode="tozero", col=2
    )
    return figure.update_yaxes(tickformat=".0%")
