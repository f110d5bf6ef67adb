"""One image's way through the exits → a plotly figure; never shown here.

In: what every exit said, how sure it was, what a policy compared (`reasons.Way`). Out: `plotly.graph_objects.Figure`.
Exits that were asked are filled, those behind where the image leaves are open; thresholds are short bars.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from .style import INCORRECT, MODEL_COLOURS, new_figure

CONFIDENCE, THRESHOLD = MODEL_COLOURS[0], INCORRECT
_WIDE = 0.36  # half of a threshold's bar, in exits
_ROOM = 0.2  # of the axis, that a text needs


def decision_trace_figure(
    confidence: npt.ArrayLike,
    answers: Sequence[str],
    exit: int,
    exit_labels: Sequence[str],
    thresholds: npt.ArrayLike = (),
    compared: npt.ArrayLike | None = None,
    what: str = "confidence",
    template: str | None = None,
) -> go.Figure:
    """Confidence at every exit, with what is asked of it, and the answer beside each point.

    Args:
        confidence: (K,). answers: K texts. exit: where the image leaves, 0-based. exit_labels: K axis labels.
        thresholds: (K−1,), or none.
        compared: (K−1,) values that meet the thresholds if those are not the confidences: a second panel shows them.
        what: name of these values.

    Raises:
        ValueError: lengths that do not agree.
    """
    sure, asked = np.asarray(confidence, np.float64), np.asarray(thresholds, np.float64)
    K = len(sure)
    if not (len(answers) == len(exit_labels) == K and len(asked) in (0, K - 1) and 0 <= exit < K):
        raise ValueError(
            f"{K} confidences need as many answers and labels and K-1 thresholds or none, not {len(answers)}, "
            f"{len(exit_labels)} and {len(asked)}; exit={exit}"
        )
    figure = new_figure(template, "", "confidence")
    other = None if compared is None else np.asarray(compared, np.float64)
    if other is not None and len(asked):
        figure.set_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.5, 0.5], vertical_spacing=0.08)
        _line(figure, other, exit, what, ["" for _ in other], row=2)
        _bars(figure, asked, other, what, row=2)
        figure.update_yaxes(title=what, row=2).update_yaxes(title="confidence", row=1)
    elif len(asked):
        _bars(figure, asked, sure, what, row=None)
    near = asked if other is None and len(asked) else np.zeros(0)
    _line(figure, sure, exit, "confidence", answers, row=None if other is None or not len(asked) else 1, above=near)
    figure.update_xaxes(tickvals=list(range(K)), ticktext=list(exit_labels), range=[-0.6, K - 0.4])
    first = {"row": 1, "col": 1} if other is not None and len(asked) else {}
    return figure.update_yaxes(tickformat=".0%", range=[0, 1.18], tickvals=[0, 0.25, 0.5, 0.75, 1], **first)


def _line(
    figure: go.Figure,
    values: npt.NDArray[np.float64],
    exit: int,
    name: str,
    texts: Sequence[str],
    row: int | None,
    above: npt.NDArray[np.float64] | None = None,
) -> None:
    """Values by exit: filled up to where the image leaves, the place itself larger, open behind it.

    Args:
        above: bars that texts must not run into: text goes below a point that lies just under one.
    """
    places = np.arange(len(values))
    gaps = np.zeros(len(values))
    if above is not None:
        gaps[: len(above)] = above - values[: len(above)]
    rest = {} if row is None else {"row": row, "col": 1}
    figure.add_scatter(
        x=places,
        y=values,
        name=name,
        mode="lines+markers+text",
        text=list(texts),
        textposition=np.where((gaps > 0) & (gaps < _ROOM), "bottom center", "top center").tolist(),
        line={"color": CONFIDENCE, "width": 2},
        marker={
            "size": np.where(places == exit, 15, 9),
            "symbol": np.where(places > exit, "circle-open", "circle"),
            "color": CONFIDENCE,
            "line": {"width": np.where(places == exit, 3, 2), "color": CONFIDENCE},
        },
        cliponaxis=False,
        hovertemplate="%{x}: %{y:.4~g}<extra>" + name + "</extra>",
        **rest,
    )


def _bars(
    figure: go.Figure, asked: npt.NDArray[np.float64], values: npt.NDArray[np.float64], name: str, row: int | None
) -> None:
    """A threshold at every exit but the last; one that nothing reaches lies at the panel's edge."""
    rest = {} if row is None else {"row": row, "col": 1}
    low, high = min(0.0, float(values.min())), max(1.0, 1.1 * float(values.max()))
    x, y = [], []
    for k, threshold in enumerate(asked.clip(low, high).tolist()):
        x += [k - _WIDE, k + _WIDE, None]
        y += [threshold, threshold, None]
    figure.add_scatter(
        x=x,
        y=y,
        name="threshold",
        mode="lines",
        line={"color": THRESHOLD, "width": 3},
        customdata=np.repeat(asked, 3)[:, None],
        hovertemplate="threshold %{customdata[0]:.4~g}<extra>" + name + "</extra>",
        **rest,
    )
