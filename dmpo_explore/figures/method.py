"""The method's moving parts, one picture each → plotly figures; never shown here.

In: one image's answers, loss weights over the epochs, compute that was planned and that was used, right answers exit by
exit. Out: figures in the style of `figures`: transparent, safe for colour-blind readers, a symbol beside every colour.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from .style import CORRECT, DASHES, GREY, INCORRECT, MODEL_COLOURS, SYMBOLS, exit_colours, new_figure

FAINT = 0.3  # of exits that are never reached


def exit_predictions_figure(
    pixels: npt.ArrayLike,
    answers: Sequence[str],
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    exit: int,
    threshold: float | None = None,
    template: str | None = None,
) -> go.Figure:
    """One image with every exit's prediction and confidence; exits behind the one that it exits at are faint.

    Args:
        pixels: (H, W, 3) uint8. answers: K labels in words. confidence: (K,). correct: (K,) bool.
        exit: 0-based, where the image exits. threshold: drawn as a line, if given.

    Raises:
        ValueError: lengths that differ or an exit that is not there.
    """
    confidence, correct = np.asarray(confidence), np.asarray(correct, bool)
    n_exits = len(answers)
    if confidence.shape != (n_exits,) or correct.shape != (n_exits,) or not 0 <= exit < n_exits:
        shapes = f"confidence {confidence.shape}, correct {correct.shape}, exit={exit}"
        raise ValueError(f"{shapes} do not fit {n_exits} answers")
    figure = new_figure(template, "", "confidence")
    figure.add_layout_image(
        source=_as_png(np.asarray(pixels, np.uint8)), xref="paper", yref="paper", x=0, y=1, sizex=0.26, sizey=1,
        xanchor="left", yanchor="top",
    )  # fmt: skip
    figure.add_bar(
        x=[f"exit {k + 1}" for k in range(n_exits)],
        y=confidence,
        text=[f"{answer}<br>{value:.0%}" for answer, value in zip(answers, confidence, strict=True)],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        marker={
            "color": [CORRECT if right else INCORRECT for right in correct],
            "opacity": [1.0 if k <= exit else FAINT for k in range(n_exits)],
            "pattern": {"shape": ["" if right else "/" for right in correct], "fillmode": "overlay", "solidity": 0.3},
        },
        hovertemplate="%{x}: %{text}<extra></extra>",
    )
    if threshold is not None:
        figure.add_hline(y=threshold, line={"color": GREY, "width": 2, "dash": "dash"})
    figure.add_annotation(x=f"exit {exit + 1}", y=1.24, text="▼ exits here", showarrow=False)
    ticks: dict[str, Any] = {"tickvals": [0, 0.25, 0.5, 0.75, 1], "tickformat": ".0%", "range": [0, 1.3]}
    return figure.update_xaxes(domain=[0.36, 1], showgrid=False).update_yaxes(**ticks)


def schedule_figure(weights: npt.ArrayLike, epoch: int | None = None, template: str | None = None) -> go.Figure:
    """Loss weight λ_k of every exit over the epochs.

    Args:
        weights: (E, K), a row per epoch. epoch: 0-based, marked by a line and a symbol on every curve, if given.

    Raises:
        ValueError: weights of another shape, or an epoch outside.
    """
    weights = np.asarray(weights, float)
    if weights.ndim != 2 or not weights.size or not 0 <= (epoch or 0) < len(weights):
        raise ValueError(f"weights of shape {weights.shape} must be (epochs, exits), with epoch={epoch} among them")
    figure = new_figure(template, "epoch", "loss weight λ")
    numbers = np.arange(1, len(weights) + 1)
    for k, colour in enumerate(exit_colours(weights.shape[1])):
        shown = [None if epoch is None or e != epoch else weights[e, k] for e in range(len(weights))]
        look = {"symbol": SYMBOLS[k % len(SYMBOLS)], "size": 11, "color": colour}
        group = f"exit {k + 1}"
        line = {"color": colour, "width": 3, "dash": DASHES[k % len(DASHES)]}
        figure.add_scatter(x=numbers, y=weights[:, k], name=group, legendgroup=group, mode="lines", line=line)
        figure.add_scatter(x=numbers, y=shown, legendgroup=group, mode="markers", marker=look, showlegend=False)
    if epoch is not None:
        figure.add_vline(x=epoch + 1, line={"color": GREY, "width": 1, "dash": "dot"})
    return figure.update_yaxes(rangemode="tozero")


def nominal_figure(points: Mapping[str, pd.DataFrame], template: str | None = None) -> go.Figure:
    """Compute that was planned against compute that was used; on the diagonal the plan came true.

    Args:
        points: name → table with the columns ``nominal`` and ``realised``, shares of the plain backbone.
    """
    figure = new_figure(template, "planned compute", "used compute")
    both = np.concatenate([table[["nominal", "realised"]].to_numpy().ravel() for table in points.values()])
    ends = [float(both.min()), float(both.max())]
    figure.add_scatter(x=ends, y=ends, name="as planned", mode="lines", line={"color": GREY, "dash": "dot"})
    for i, (name, table) in enumerate(points.items()):
        figure.add_scatter(
            x=table["nominal"],
            y=table["realised"],
            name=name,
            mode="lines+markers",
            line={"color": MODEL_COLOURS[i % len(MODEL_COLOURS)], "dash": DASHES[i % len(DASHES)]},
            marker={"size": 9, "symbol": SYMBOLS[i % len(SYMBOLS)]},
            hovertemplate="%{fullData.name}<br>planned %{x:.1%}, used %{y:.1%}<extra></extra>",
        )
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".0%")


def flips_figure(correct: npt.ArrayLike, template: str | None = None) -> go.Figure:
    """Answers that turn right and answers that turn wrong from one exit to the next, in images.

    Args:
        correct: (B, K) bool, K ≥ 2.

    Raises:
        ValueError: another shape.
    """
    correct = np.asarray(correct, bool)
    if correct.ndim != 2 or correct.shape[1] < 2:
        raise ValueError(f"correct {correct.shape} must be (B, K) with at least two exits")
    before, after = correct[:, :-1], correct[:, 1:]
    steps = [f"{k} → {k + 1}" for k in range(1, correct.shape[1])]
    figure = new_figure(template, "from exit to exit", "images").update_layout(barmode="relative")
    turned = (("turns right", ~before & after, CORRECT, "", 1), ("turns wrong", before & ~after, INCORRECT, "/", -1))
    for name, changed, colour, pattern, sign in turned:
        count = changed.sum(axis=0)
        figure.add_bar(
            x=steps,
            y=sign * count,
            text=[f"{n:,}" for n in count],
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "solidity": 0.3}},
            hovertemplate="%{x}: %{text} " + name + "<extra></extra>",
        )
    return figure.update_xaxes(type="category").update_yaxes(zeroline=True, zerolinecolor=GREY)


def _as_png(pixels: npt.NDArray[np.uint8], least: int = 240) -> str:
    """A data URI; small pictures are enlarged without smoothing, so that every pixel shows."""
    from PIL import Image

    factor = max(1, least // max(pixels.shape[:2]))
    out = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((factor, factor, 1), np.uint8))).save(out, "png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
