"""Decision trace of one image: confidence, prediction and threshold at every exit.

In: arrays (K,) of one image and the thresholds of a policy. Out: `plotly.graph_objects.Figure`, never shown here.
Exits that run are filled, those after the image's exit are open; thresholds are short bars.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from .style import MODEL_COLOURS, THRESHOLD, as_text, new_figure

_HALF_BAR = 0.36  # half of a threshold's bar, in exits
_TEXT_HEIGHT = 0.2  # of the axis, that a text needs


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
    """Confidence of one image at every exit, with the thresholds and a text beside each point.

    Args:
        confidence: (K,). answers: K texts, such as the predictions. exit: the image's exit, 0-based.
        exit_labels: K axis labels. thresholds: (K−1,), or none.
        compared: (K−1,) scores that the thresholds apply to, where these are not the confidences. A second panel
            shows them.
        what: name of these scores.

    Raises:
        ValueError: lengths that do not agree.

    Example:
        >>> import dmpo_explore as dx
        >>> texts, labels = ["Coat", "Bag", "Bag"], ["exit 1", "exit 2", "exit 3"]
        >>> figure = dx.figures.decision_trace_figure([0.4, 0.8, 0.95], texts, 1, labels, [0.7, 0.7])
        >>> [trace.name for trace in figure.data]
        ['threshold', 'confidence']
    """
    sure, limits = np.asarray(confidence, np.float64), np.asarray(thresholds, np.float64)
    K = len(sure)
    if not (len(answers) == len(exit_labels) == K and len(limits) in (0, K - 1) and 0 <= exit < K):
        raise ValueError(
            f"{K} confidences need as many answers and labels and K-1 thresholds or none, not {len(answers)}, "
            f"{len(exit_labels)} and {len(limits)}; exit={exit}"
        )
    figure = new_figure(template, "", "confidence")
    other = None if compared is None else np.asarray(compared, np.float64)
    if other is not None and len(limits):
        figure.set_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.5, 0.5], vertical_spacing=0.08)
        _line(figure, other, exit, what, ["" for _ in other], row=2)
        _bars(figure, limits, other, what, row=2)
        figure.update_yaxes(title=what, row=2).update_yaxes(title="confidence", row=1)
    elif len(limits):
        _bars(figure, limits, sure, what, row=None)
    near = limits if other is None and len(limits) else np.zeros(0)
    _line(figure, sure, exit, "confidence", answers, row=None if other is None or not len(limits) else 1, above=near)
    figure.update_xaxes(tickvals=list(range(K)), ticktext=list(exit_labels), range=[-0.6, K - 0.4])
    first = {"row": 1, "col": 1} if other is not None and len(limits) else {}
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
    """Values by exit: filled up to the image's exit, which is larger, and open after it.

    Args:
        above: bars that texts must not overlap: text goes below a point that lies just under one, unless the axis and
            its labels are there.
    """
    places = np.arange(len(values))
    gaps = np.zeros(len(values))
    if above is not None:
        gaps[: len(above)] = above - values[: len(above)]
    below = (gaps > 0) & (gaps < _TEXT_HEIGHT) & (values > _TEXT_HEIGHT)
    rest = {} if row is None else {"row": row, "col": 1}
    figure.add_scatter(
        x=places,
        y=values,
        name=name,
        mode="lines+markers+text",
        text=[as_text(text) for text in texts],
        textposition=np.where(below, "bottom center", "top center").tolist(),
        line={"color": MODEL_COLOURS[0], "width": 2},
        marker={
            "size": np.where(places == exit, 15, 9),
            "symbol": np.where(places > exit, "circle-open", "circle"),
            "color": MODEL_COLOURS[0],
            "line": {"width": np.where(places == exit, 3, 2), "color": MODEL_COLOURS[0]},
        },
        cliponaxis=False,
        hovertemplate="%{x}: %{y:.4~g}<extra>" + name + "</extra>",
        **rest,
    )


def _bars(
    figure: go.Figure, limits: npt.NDArray[np.float64], values: npt.NDArray[np.float64], name: str, row: int | None
) -> None:
    """A threshold at every exit but the last; one out of reach lies at the panel's edge."""
    rest = {} if row is None else {"row": row, "col": 1}
    low, high = min(0.0, float(values.min())), max(1.0, 1.1 * float(values.max()))
    x, y = [], []
    for k, threshold in enumerate(limits.clip(low, high).tolist()):
        x += [k - _HALF_BAR, k + _HALF_BAR, None]
        y += [threshold, threshold, None]
    figure.add_scatter(
        x=x,
        y=y,
        name="threshold",
        mode="lines",
        line={"color": THRESHOLD, "width": 3},
        customdata=np.repeat(limits, 3)[:, None],
        hovertemplate="threshold %{customdata[0]:.4~g}<extra>" + name + "</extra>",
        **rest,
    )
