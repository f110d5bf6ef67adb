"""The width × depth plane: accuracy over GFLOPs of a run and narrower ones, and what a budget should buy.

In: the tables of `analysis.width_depth` and `analysis.best_buys`. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from .style import GREY, model_colour, model_line, new_figure, symbol


def width_depth_figure(
    plane: pd.DataFrame, buys: pd.DataFrame, colours: Mapping[str, int], template: str | None = None
) -> go.Figure:
    """A line per run over its thresholds, the Pareto front behind them, and a band with the run that a budget buys.

    Args:
        plane: of `dx.analysis.width_depth`. buys: of `dx.analysis.best_buys`.
        colours: run → number of its colour in the palette.

    Example:
        >>> import dmpo_explore as dx, pandas as pd
        >>> rows = [("wide", 0.9, 0.5, 0.5, 0.8, True), ("half", 0.9, 0.3, 0.3, 0.7, True)]
        >>> plane = pd.DataFrame(rows, columns=["run", "threshold", "budget", "gflops", "accuracy", "front"])
        >>> plane = plane.sort_values("budget")
        >>> figure = dx.figures.width_depth_figure(plane, dx.analysis.best_buys(plane), {"wide": 0, "half": 1})
        >>> [trace.name for trace in figure.data if trace.showlegend is not False]
        ['Pareto front', 'wide', 'half']
    """
    figure = new_figure(template, "compute (GFLOPs, mean of an image)", "accuracy")
    front = plane[plane["front"]]
    figure.add_scatter(
        x=front["gflops"], y=front["accuracy"], name="Pareto front", mode="lines", hoverinfo="skip",
        line={"color": GREY, "width": 9}, opacity=0.35,
    )  # fmt: skip
    for name, i in colours.items():
        own = plane[plane["run"] == name].sort_values("gflops")
        figure.add_scatter(
            x=own["gflops"], y=own["accuracy"], customdata=own[["threshold"]], name=name, mode="lines+markers",
            line=model_line(i, 2), marker={"size": 5, "symbol": symbol(i)},
            hovertemplate="%{fullData.name}<br>%{x:.3g} GFLOPs<br>accuracy %{y:.2%}<br>threshold "
            "%{customdata[0]:.4g}<extra></extra>",
        )  # fmt: skip
    low, high = float(plane["accuracy"].min()), float(plane["accuracy"].max())
    floor = low - 0.07 * max(high - low, 0.01)
    for row in buys.itertuples():
        figure.add_scatter(
            x=[row.low, row.high], y=[floor, floor], mode="lines", name=f"buy {row.run}", showlegend=False,
            line={"color": model_colour(colours[str(row.run)]), "width": 12},
            hovertemplate=f"{row.low:.3g} to {row.high:.3g} GFLOPs: {row.run}<extra></extra>",
        )  # fmt: skip
    figure.add_annotation(
        x=float(buys["high"].iloc[-1]), y=floor, text="what a budget buys", showarrow=False, xanchor="right", yshift=16,
        font={"size": 12},
    )  # fmt: skip
    return figure.update_yaxes(tickformat=".1%")
