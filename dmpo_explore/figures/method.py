"""Parts of the method: predictions of every exit, loss schedules.

In: one image with its predictions, loss weights over the epochs. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from .style import (
    CORRECT,
    GREY,
    HATCH,
    INCORRECT,
    as_text,
    dash,
    exit_colours,
    image_address,
    new_figure,
    symbol,
)  # fmt: skip

_FAINT = 0.3  # opacity of exits that are never reached
_LINES = 0.2  # of the axis: what two lines of text above a bar need
_LEAST = 240  # pixels of the image's longer side


def exit_predictions_figure(
    pixels: npt.ArrayLike,
    answers: Sequence[str],
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike | None,
    exit: int,
    threshold: float | None = None,
    template: str | None = None,
) -> go.Figure:
    """One image with every exit's prediction and confidence; exits after the image's exit are faint.

    Args:
        pixels: (H, W, 3) uint8. answers: K labels in words. confidence: (K,). correct: (K,) bool, or None
            where the label is unknown: then bars are grey.
        exit: 0-based, where the image exits. threshold: drawn as a line, if given, and the exit is marked.

    Raises:
        ValueError: lengths that differ or an exit that does not exist.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> image = np.zeros((28, 28, 3), np.uint8)
        >>> figure = dx.figures.exit_predictions_figure(image, ["Bag", "Coat"], [0.5, 0.9], [False, True], exit=1)
        >>> list(figure.data[0].text)
        ['Bag<br>50%', 'Coat<br>90%']
    """
    n_exits, confidence = len(answers), np.asarray(confidence)
    known, correct = correct is not None, np.ones(n_exits, bool) if correct is None else np.asarray(correct, bool)
    if confidence.shape != (n_exits,) or correct.shape != (n_exits,) or not 0 <= exit < n_exits:
        shapes = f"confidence {confidence.shape}, correct {correct.shape}, exit={exit}"
        raise ValueError(f"{shapes} do not fit {n_exits} answers")
    reached = np.arange(n_exits) <= exit
    above = (np.inf if threshold is None else threshold) - confidence
    figure, image = new_figure(template, "", "confidence"), np.asarray(pixels, np.uint8)
    source = image_address(image, max(1, _LEAST // max(image.shape[:2])))
    where = {"x": 0, "y": 1, "sizex": 0.26, "sizey": 1, "xanchor": "left", "yanchor": "top"}
    figure.add_layout_image(source=source, xref="paper", yref="paper", **where)
    figure.add_bar(
        x=[f"exit {k + 1}" for k in range(n_exits)],
        y=confidence,
        text=[f"{as_text(answer)}<br>{value:.0%}" for answer, value in zip(answers, confidence, strict=True)],
        textposition=np.where((above > 0) & (above < _LINES), "inside", "outside").tolist(),
        insidetextfont={"color": np.where(reached, "white", GREY).tolist()},
        constraintext="none",
        textangle=0,  # browsers turn a text that is wider than its bar
        cliponaxis=False,
        showlegend=False,
        marker={
            "color": [(CORRECT if hit else INCORRECT) if known else GREY for hit in correct],
            "opacity": np.where(reached, 1.0, _FAINT).tolist(),
            "pattern": {"shape": ["" if hit else "/" for hit in correct], **HATCH},
        },
        hovertemplate="%{x}: %{text}<extra></extra>",
    )
    if threshold is not None:
        figure.add_hline(y=threshold, line={"color": GREY, "width": 2, "dash": "dash"})
        mark = confidence[exit] + 0.05 + (above[exit] if 0 < above[exit] < _LINES else _LINES)  # above text and line
        figure.add_annotation(x=f"exit {exit + 1}", y=mark, text="▼ exits here", showarrow=False)
    ticks: dict[str, Any] = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "tickformat": ".0%", "range": [0, 1.3]}
    return figure.update_xaxes(domain=[0.36, 1], showgrid=False).update_yaxes(**ticks)


def schedule_figure(weights: npt.ArrayLike, epoch: int | None = None, template: str | None = None) -> go.Figure:
    """Loss weight λ_k of every exit over the epochs.

    Args:
        weights: (E, K), a row per epoch. epoch: 0-based, marked by a line and a symbol on every curve, if given.

    Raises:
        ValueError: weights of another shape, or an epoch outside.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.schedule_figure([[0.0, 2.0], [1.0, 1.0]])
        >>> [trace.y.tolist() for trace in figure.data if trace.mode == "lines"]
        [[0.0, 1.0], [2.0, 1.0]]
    """
    weights = np.asarray(weights, float)
    if weights.ndim != 2 or not weights.size or not 0 <= (epoch or 0) < len(weights):
        raise ValueError(f"weights of shape {weights.shape} must be (epochs, exits), with epoch={epoch} among them")
    figure = new_figure(template, "epoch", "loss weight λ")
    numbers = np.arange(1, len(weights) + 1)
    for k, colour in enumerate(exit_colours(weights.shape[1])):
        shown = [None if epoch is None or e != epoch else weights[e, k] for e in range(len(weights))]
        look = {"symbol": symbol(k), "size": 11, "color": colour}
        group = f"exit {k + 1}"
        line = {"color": colour, "width": 3, "dash": dash(k)}
        figure.add_scatter(x=numbers, y=weights[:, k], name=group, legendgroup=group, mode="lines", line=line)
        figure.add_scatter(x=numbers, y=shown, legendgroup=group, mode="markers", marker=look, showlegend=False)
    if epoch is not None:
        figure.add_vline(x=epoch + 1, line={"color": GREY, "width": 1, "dash": "dot"})
    return figure.update_yaxes(rangemode="tozero")
