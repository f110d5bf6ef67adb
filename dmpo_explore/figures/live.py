"""Statistics of a running live inference: exit shares and throughput over the images classified so far.

In: `inference.live.Point`s and the places where the policy changed. Out: Plotly figures, never shown here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from ..utils.typing import Floats
from .style import GREY, exit_colours, model_line, new_figure, symbol

if TYPE_CHECKING:
    from ..inference.live import Latency, Point

_NAMED_FROM = 0.04  # share of the height from which a band has room for its name
_NAME_HEIGHT = 0.075  # share of the height that a name takes
_BINS = 40  # of the latency histogram
_NAME_WIDTH = 0.12  # share of the width that the name of a change takes
_X = "images classified"


def exit_shares_figure(
    timeline: Sequence[Point], moves: Sequence[tuple[int, str]] = (), template: str | None = None
) -> go.Figure:
    """Exit shares of the images, stacked, since the policy last changed.

    The bands' names stand at the right end. Without points the figure is empty.

    Args:
        timeline: a point per call of the model.
        moves: changes of the policy: the number of images classified before it, and its name.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.inference.live import Point
        >>> figure = dx.figures.exit_shares_figure([Point(10, (0.6, 0.4), 100.0, 40.0)])
        >>> list(figure.layout.yaxis.ticktext)
        ['exit 1 · 60%', 'exit 2 · 40%']
    """
    figure = new_figure(template, _X, "")
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
    middles = np.cumsum(last) - last / 2
    named = _apart(middles, last)
    texts = [f"exit {k + 1} · {last[k]:.0%}" for k in named]
    figure.update_layout(margin={"l": 10})  # the axis is on the right
    figure.update_yaxes(range=[0, 1], side="right", tickvals=middles[named].tolist(), ticktext=texts, showgrid=False)
    return _marked(figure, timeline, moves, named=True)


def speed_figure(
    timeline: Sequence[Point], moves: Sequence[tuple[int, str]] = (), template: str | None = None
) -> go.Figure:
    """Throughput of every call in images per second, with early exit and at full depth.

    Args:
        timeline: a point per call of the model.
        moves: changes of the policy: the number of images classified before it, and its name.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.inference.live import Point
        >>> figure = dx.figures.speed_figure([Point(10, (0.6, 0.4), 100.0, 40.0)])
        >>> {trace.name: list(trace.y) for trace in figure.data}
        {'early exit': [100.0], 'full depth': [40.0]}
    """
    figure = new_figure(template, _X, "images per second")
    for i, (name, key) in enumerate((("early exit", "early"), ("full depth", "full"))):
        figure.add_scatter(
            x=[p.answered for p in timeline],
            y=[getattr(p, key) for p in timeline],
            name=name,
            mode="lines+markers",
            line=model_line(i, 2),
            marker={"symbol": symbol(i), "size": 5},
            hovertemplate="%{fullData.name}: %{y:.1f} images/s<extra></extra>",
        )
    return _marked(figure.update_yaxes(rangemode="tozero", tickformat=","), timeline, moves)


def latency_figure(latency: Sequence[Latency], full_s: float | None = None, template: str | None = None) -> go.Figure:
    """Histogram of the images' latency, stacked by exit: from the begin of their call until their exit's stage ended.

    Args:
        latency: of each exit. full_s: seconds of a call at full depth, drawn as a line.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.inference.live import Latency
        >>> figure = dx.figures.latency_figure([Latency((0.01, 0.02), (3, 1)), Latency((0.04,), (2,))])
        >>> [int(sum(bars.y)) for bars in figure.data]
        [4, 2]
    """
    figure = new_figure(template, "latency (ms)", "images")
    seconds = [second for one in latency for second in one.seconds] + ([full_s] if full_s else [])
    if not latency or not seconds:
        return figure
    edges = np.linspace(0, 1000 * max(seconds) * 1.02, _BINS + 1)
    for k, (one, colour) in enumerate(zip(latency, exit_colours(len(latency)), strict=True), start=1):
        images, _ = np.histogram(np.multiply(one.seconds, 1000.0), edges, weights=np.asarray(one.images, np.int64))
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=images.astype(np.int64),
            name=f"exit {k}",
            width=float(edges[1]),
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{fullData.name}: %{y:,} images around %{x:.1f} ms<extra></extra>",
        )
    if full_s:
        line = {"color": GREY, "width": 1.5, "dash": "dot"}
        figure.add_vline(x=1000 * full_s, line=line, annotation_text="full depth", annotation_position="top left")
    return figure.update_layout(barmode="stack", bargap=0).update_xaxes(range=[0, float(edges[-1])])


def _marked(
    figure: go.Figure, timeline: Sequence[Point], moves: Sequence[tuple[int, str]], *, named: bool = False
) -> go.Figure:
    """``figure`` with a line, and where there is room a name, at every change of the policy within the timeline."""
    first, last = (timeline[0].answered, timeline[-1].answered) if timeline else (0, 0)
    free = float("inf")  # right of it a name would meet the next one's
    for answered, text in reversed(moves):
        if not first <= answered < last:
            continue
        room = named and answered <= free
        free = answered - _NAME_WIDTH * (last - first) if room else free
        line = {"color": GREY, "width": 1.5, "dash": "dot"}
        figure.add_vline(x=answered, line=line, annotation_text=text if room else None, annotation_position="top")
    whole = first == last or 2 * first <= last  # nothing before the first call was dropped: the axis begins at 0
    return figure.update_xaxes(tickformat=",", range=[0, last] if last and whole else None)


def _apart(middles: Floats, shares: Floats) -> list[int]:
    """Bands whose names do not meet: of two that would, the larger band keeps its name."""
    kept: list[int] = []
    for k in np.argsort(-shares, kind="stable").tolist():
        if shares[k] >= _NAMED_FROM and all(abs(middles[k] - middles[one]) >= _NAME_HEIGHT for one in kept):
            kept.append(k)
    return sorted(kept)
