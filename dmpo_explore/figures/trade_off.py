"""Accuracy against compute, and the exits of a split's images.

In: tables of `dx.trade_off`, arrays (B,) or (B,K) of a record. Out: `plotly.graph_objects.Figure`, never shown here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from ..utils.typing import Ints
from .style import (
    COMPUTE,
    CORRECT,
    GREY,
    HATCH,
    INCORRECT,
    MODEL_COLOURS,
    SHARES,
    WHITE,
    given_labels,
    model_colour,
    model_line,
    new_figure,
    unique_labels,
)

MOST_CLASSES = 24  # rows of a heat map by class
_HOVER = "%{fullData.name}<br>compute %{x:.1%}<br>accuracy %{y:.2%}"


def trade_off_figure(
    curves: Mapping[str, pd.DataFrame],
    point: Mapping[str, Any] | None = None,
    singles: Mapping[str, tuple[float, float]] | None = None,
    template: str | None = None,
    bound: pd.DataFrame | None = None,
) -> go.Figure:
    """Accuracy over mean compute as the threshold varies, one line per model.

    Args:
        curves: name → table of `dx.trade_off`.
        point: ``flops_fraction`` and ``accuracy`` of the operating point (the dict of `dx.summarise` will do), or None.
        singles: name → (flops_fraction, accuracy) of models without exits, drawn as diamonds.
        bound: table of `dx.trade_off` of policy ``oracle`` on the first curve's record, drawn thin and grey, level from
            its best point on.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("demo").record("test")
        >>> figure = dx.figures.trade_off_figure({"demo": dx.trade_off(record)}, singles={"plain": (1.0, 0.9)})
        >>> [trace.name for trace in figure.data]
        ['demo', 'plain']
    """
    figure = new_figure(template, COMPUTE, "accuracy")
    for i, (name, table) in enumerate(curves.items()):
        figure.add_scatter(
            x=table["flops_fraction"],
            y=table["accuracy"],
            customdata=table[["threshold", "mean_exit"]],
            name=name,
            mode="lines+markers",
            line=model_line(i, 2),
            marker={"size": 4},
            zorder=len(curves) - i,  # the first lies on top
            hovertemplate=_HOVER
            + "<br>threshold %{customdata[0]:.4g}<br>mean exit %{customdata[1]:.2f}<extra></extra>",
        )
    for i, (name, (flops, accuracy)) in enumerate((singles or {}).items(), start=len(curves)):
        marker = {"symbol": "diamond", "size": 12, "color": model_colour(i)}
        _add_point(figure, name, flops, accuracy, marker, zorder=len(curves) + 1)
    if bound is not None:
        figure.add_scatter(
            x=bound["flops_fraction"],
            y=bound["accuracy"].cummax(),
            name=f"oracle of {next(iter(curves))}" if curves else "oracle bound",
            mode="lines+markers",
            line={"color": GREY, "dash": "dot", "width": 1.5},
            marker={"size": 4},
            hovertemplate=_HOVER + "<extra></extra>",
        )
    if point is not None:
        colour = MODEL_COLOURS[0] if curves else GREY
        marker = {"size": 13, "color": colour, "line": {"width": 3, "color": WHITE}}
        where = (point["flops_fraction"], point["accuracy"])
        _add_point(figure, "operating point", *where, marker, zorder=len(curves) + 2, showlegend=False)
    return figure.update_xaxes(tickformat=".0%").update_yaxes(tickformat=".1%")


def _add_point(
    figure: go.Figure, name: str, flops: float, accuracy: float, marker: Mapping[str, Any], **options: Any
) -> None:
    """One named mark on the curve's axes."""
    options["hovertemplate"] = _HOVER + "<extra></extra>"
    figure.add_scatter(x=[flops], y=[accuracy], name=name, mode="markers", marker=marker, **options)


def exit_histogram_figure(
    exits: npt.ArrayLike, correct: npt.ArrayLike, exit_labels: Sequence[str], template: str | None = None
) -> go.Figure:
    """Number of images at each exit, correct and incorrect stacked.

    Args:
        exits: (B,) 0-based. correct: (B,) bool, whether the prediction there is correct. exit_labels: K axis labels.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.exit_histogram_figure([0, 0, 1], [True, False, True], ["exit 1", "exit 2"])
        >>> {trace.name: [int(n) for n in trace.y] for trace in figure.data}
        {'correct': [1, 1], 'incorrect': [1, 0]}
    """
    exits, correct = np.asarray(exits), np.asarray(correct, bool)
    figure = new_figure(template, "exit", "images").update_layout(barmode="stack", legend={"traceorder": "normal"})
    for name, mask, colour, pattern in (("correct", correct, CORRECT, ""), ("incorrect", ~correct, INCORRECT, "/")):
        figure.add_bar(
            x=list(exit_labels),
            y=np.bincount(exits[mask], minlength=len(exit_labels)),
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern, **HATCH}},
            hovertemplate="%{x}: %{y:,} " + name + "<extra></extra>",
        )
    totals = np.bincount(exits, minlength=len(exit_labels)).tolist()
    above = [
        {"x": label, "y": total, "text": f"{total:,}", "showarrow": False, "yshift": 9}
        for label, total in zip(exit_labels, totals, strict=True)
    ]
    return figure.update_layout(annotations=above).update_xaxes(type="category").update_yaxes(tickformat=",")


def class_exit_figure(
    labels: npt.ArrayLike,
    exits: npt.ArrayLike,
    class_names: Sequence[str],
    exit_labels: Sequence[str],
    template: str | None = None,
) -> go.Figure:
    """Exit shares of each class as a heat map: a row per class, adding up to 1.

    Of more than `MOST_CLASSES` classes, those that exit earliest and latest on average are drawn, from early to late.

    Args:
        labels: (B,) true classes. exits: (B,) 0-based. class_names: C names. exit_labels: K column labels.

    Example:
        >>> import dmpo_explore as dx
        >>> figure = dx.figures.class_exit_figure([0, 0, 1], [0, 1, 1], ["cat", "dog"], ["exit 1", "exit 2"])
        >>> figure.data[0].z.tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    labels, exits = np.asarray(labels), np.asarray(exits)
    size = (len(class_names), len(exit_labels))
    counts = np.bincount(labels * size[1] + exits, minlength=size[0] * size[1]).reshape(size)
    rows, with_images = _rows_drawn(counts), int((counts.sum(axis=1) > 0).sum())
    names = given_labels(unique_labels(class_names))
    counts = counts[rows]
    figure = new_figure(template, "", "").add_heatmap(
        z=counts / np.maximum(counts.sum(axis=1, keepdims=True), 1),
        x=list(exit_labels),
        y=[names[row] for row in rows],
        customdata=counts,
        colorscale=SHARES,
        zmin=0,
        zmax=1,
        texttemplate="%{z:.0%}",
        xgap=2,
        ygap=2,
        colorbar={"tickformat": ".0%"},
        hovertemplate="%{y}, %{x}: %{customdata:,} images, %{z:.1%}<extra></extra>",
    )
    if len(rows) < len(names):
        which = "exit earliest and latest" if len(rows) < with_images else "have images"
        figure.update_layout(title=f"{len(rows)} of {len(names):,} classes: those that {which}")
    figure.update_xaxes(type="category", showgrid=False)
    return figure.update_yaxes(type="category", autorange="reversed", showgrid=False)


def _rows_drawn(counts: Ints) -> Ints:
    """The classes that `class_exit_figure` draws; counts (C, K)."""
    if len(counts) <= MOST_CLASSES:
        return np.arange(len(counts))
    images = counts.sum(axis=1)
    means = np.divide(counts @ np.arange(counts.shape[1]), images, out=np.full(len(counts), np.nan), where=images > 0)
    order = np.argsort(means, kind="stable")[: int((images > 0).sum())]
    half = MOST_CLASSES // 2
    return order if len(order) <= MOST_CLASSES else np.concatenate([order[:half], order[-half:]])
