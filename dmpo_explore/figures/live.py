"""A live run while it goes on → plotly figures; never shown here.

In: `tally.Point`s and the places where the policy was exchanged. Out: figures in the style of `figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from .style import DASHES, GREY, MODEL_COLOURS, SYMBOLS, exit_colours, new_figure

if TYPE_CHECKING:
    from ..inference.live_stats import Point

Moves = Sequence[tuple[int, str]]  # images answered when it came, and what to call it
LEAST = 0.04  # share of the height from which a band has room for its name
ROOM = 0.12  # share of the width that the name of a move takes


def exit_shares_figure(timeline: Sequence[Point], moves: Moves = (), template: str | None = None) -> go.Figure:
    """Shares of the images that left at each exit, stacked, since the policy was last exchanged.

    The bands' names stand at the right end. Empty without points.
    """
    figure = new_figure(template, "images answered", "")
    if not timeline:
        return figure
    x, shares = [p.answered for p in timeline], np.array([p.shares for p in timeline])  # (T,), (T, K)
    for k, colour in enumerate(exit_colours(shares.shape[1])):
        figure.add_scatter(
            x=x,
            y=shares[:, k],
            name=f"exit {k + 1}",
            mode="lines" if len(x) > 1 else "markers",
            line={"color": colour, "width": 1},
            fillcolor=colour,
            stackgroup="exits",
            showlegend=False,
            hovertemplate="%{fullData.name}: %{y:.1%}<extra></extra>",
        )
    last = shares[-1]
    named = np.flatnonzero(last >= LEAST)
    middles = (np.cumsum(last) - last / 2)[named].tolist()
    texts = [f"exit {k + 1} · {last[k]:.0%}" for k in named]
    figure.update_layout(margin={"l": 10})  # the axis is on the right
    figure.update_yaxes(range=[0, 1], side="right", tickvals=middles, ticktext=texts, showgrid=False)
    return _marked(figure, timeline, moves, named=True)


def speed_figure(timeline: Sequence[Point], moves: Moves = (), template: str | None = None) -> go.Figure:
    """Images per second of every call: leaving early, and the full model."""
    figure = new_figure(template, "images answered", "images per second")
    for i, (name, key) in enumerate((("leaving early", "early"), ("full model", "full"))):
        figure.add_scatter(
            x=[p.answered for p in timeline],
            y=[getattr(p, key) for p in timeline],
            name=name,
            mode="lines+markers",
            line={"color": MODEL_COLOURS[i], "dash": DASHES[i], "width": 2},
            marker={"symbol": SYMBOLS[i], "size": 5},
            hovertemplate="%{fullData.name}: %{y:.1f} images/s<extra></extra>",
        )
    return _marked(figure.update_yaxes(rangemode="tozero", tickformat=","), timeline, moves)


def _marked(figure: go.Figure, timeline: Sequence[Point], moves: Moves, *, named: bool = False) -> go.Figure:
    """With a line, and where there is room a name, at every exchange of the policy within the timeline."""
    first, last = (timeline[0].answered, timeline[-1].answered) if timeline else (0, 0)
    free = float("inf")  # right of it a name would meet the next one's
    for answered, text in reversed(moves):
        if not first <= answered < last:
            continue
        room = named and answered <= free
        free = answered - ROOM * (last - first) if room else free
        line = {"color": GREY, "width": 1.5, "dash": "dot"}
        figure.add_vline(x=answered, line=line, annotation_text=text if room else None, annotation_position="top")
    return figure.update_xaxes(tickformat=",")
