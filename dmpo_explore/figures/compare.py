"""Two or more models side by side → plotly figures; never shown here.

In: tables of accuracies and of differences with their intervals. Out: figures in the style of `figures`: one colour and
one symbol a model, transparent, for light and dark pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from .style import DASHES, GREY, MODEL_COLOURS, SYMBOLS, new_figure

Points = Mapping[str, tuple[float, float]]


def class_accuracy_figure(accuracy: pd.DataFrame, colours: Sequence[int], template: str | None = None) -> go.Figure:
    """Accuracy on each class, one row a class and one mark a model, joined by a line.

    Args:
        accuracy: index classes (from top to bottom), one column a model. colours: which colour and symbol each has.
    """
    figure = new_figure(template, "accuracy", "")
    names = [as_text(name) for name in accuracy.index]
    for name, (low, high) in zip(names, zip(accuracy.min(axis=1), accuracy.max(axis=1), strict=True), strict=True):
        line = {"color": GREY, "width": 2}
        figure.add_scatter(x=[low, high], y=[name, name], mode="lines", line=line, showlegend=False, hoverinfo="skip")
    for column, i in zip(accuracy.columns, colours, strict=True):
        figure.add_scatter(
            x=accuracy[column],
            y=names,
            name=str(column),
            mode="markers",
            marker={"color": _colour(i), "symbol": SYMBOLS[i % len(SYMBOLS)], "size": 11},
            hovertemplate="%{y}<br>%{fullData.name}: %{x:.1%}<extra></extra>",
        )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(type="category", autorange="reversed")


def accuracy_difference_figure(
    differences: Mapping[str, pd.DataFrame], colours: Sequence[int], against: str, template: str | None = None
) -> go.Figure:
    """Accuracy above another model at the same budget, with the interval as a band.

    Args:
        differences: model → table of ``budget``, ``difference``, ``low``, ``high`` (fractions).
        colours: which colour and symbol each has. against: the other model's name.
    """
    figure = new_figure(template, "at most this compute (share of the plain backbone)", f"points above {against}")
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    for (name, table), i in zip(differences.items(), colours, strict=True):
        x, low, high = (table[column].tolist() for column in ("budget", "low", "high"))
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[100 * value for value in (*high, *low[::-1])],
            fill="toself",
            fillcolor=_faint(_colour(i)),
            line={"width": 0},
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=x,
            y=100 * table["difference"],
            name=name,
            customdata=100 * table[["low", "high"]],
            mode="lines+markers",
            line={"color": _colour(i), "dash": DASHES[i % len(DASHES)], "width": 2},
            marker={"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 5},
            hovertemplate="%{fullData.name} at %{x:.0%}: %{y:+.2f} points"
            "<br>95%: %{customdata[0]:+.2f} to %{customdata[1]:+.2f}<extra></extra>",
        )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat="+.0f")


def mark_points(figure: go.Figure, points: Points, colours: Sequence[int]) -> go.Figure:
    """Add where each model stands on `trade_off_figure`: name → (flops_fraction, accuracy); the figure is returned."""
    for (name, (flops, accuracy)), i in zip(points.items(), colours, strict=True):
        figure.add_scatter(
            x=[flops],
            y=[accuracy],
            name=name,
            mode="markers",
            marker={"size": 13, "color": _colour(i), "line": {"width": 3, "color": "white"}},
            showlegend=False,
            zorder=100,
            hovertemplate="%{fullData.name}<br>compute %{x:.1%}<br>accuracy %{y:.2%}<extra></extra>",
        )
    return figure


def as_text(name: object) -> str:
    """``name`` as plotly shows it literally: plotly reads a little HTML in labels."""
    return str(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _colour(i: int) -> str:
    return MODEL_COLOURS[i % len(MODEL_COLOURS)]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
