"""Colours, symbols and layout that all figures share."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


CORRECT, INCORRECT = "#0072B2", "#D55E00"


GREY = "#767676"  # 4.5:1 on white, above 4:1 on a dark page


SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up")


DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def exit_colours(n_exits: int) -> list[str]:
    """K colours from the first exit to the last, as ``rgb(…)``."""
    places = np.linspace(0.8, 0.3, n_exits) if n_exits > 1 else [0.5]
    return list(sample_colorscale("viridis", [float(p) for p in places]))


def new_figure(template: str | None, x: str, y: str) -> go.Figure:
    """An empty figure with titled axes; without a template its words are grey, legible on light and dark."""
    figure = go.Figure().update_layout(template=template or "none")
    if template is None:
        figure.update_layout(font={"color": GREY})
    return styled(figure.update_xaxes(title=x).update_yaxes(title=y))


def styled(figure: go.Figure) -> go.Figure:
    """``figure`` in the house's looks: no background of its own, legend above, thin grid."""
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    grid = {"gridcolor": "rgba(128,128,128,0.3)", "zeroline": False, "automargin": True}
    return figure.update_xaxes(**grid).update_yaxes(**grid)
